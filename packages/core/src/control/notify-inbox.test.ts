import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NotifyInbox, type InboxItem } from './notify-inbox.ts';

const item = (name: string, message = ''): InboxItem => ({ name, message });
const inboxOf = (items = 100, characters = 1_000) => new NotifyInbox({ items, characters });

describe('NotifyInbox', () => {
  it('keeps the order of arrival and drains', () => {
    const inbox = inboxOf();
    for (const name of ['a', 'b', 'c']) expect(inbox.push(item(name))).toBe(true);
    expect(inbox.size).toBe(3);
    expect(inbox.take().map(({ name }) => name)).toEqual(['a', 'b', 'c']);
    expect(inbox.take()).toEqual([]);
    expect(inbox.received).toBe(3);
  });

  it('refuses what exceeds its number or its text, and takes again after a drain', () => {
    const inbox = inboxOf(2, 10);
    expect(inbox.push(item('12345', '123456'))).toBe(false);
    expect(inbox.push(item('12345', '1234'))).toBe(true);
    expect(inbox.push(item('12'))).toBe(false);
    expect(inbox.push(item('1'))).toBe(true);
    expect(inbox.push(item(''))).toBe(false);
    expect([inbox.size, inbox.refused]).toEqual([2, 3]);
    inbox.take();
    expect(inbox.push(item('12345', '12345'))).toBe(true);
  });

  it('gives an item to the iterator that has waited longest, and to no other', async () => {
    const inbox = inboxOf(1);
    const first = inbox.iterate();
    const second = inbox.iterate();
    const waiting = [first.next(), second.next(), first.next()];
    for (const name of ['a', 'b', 'c', 'queued']) expect(inbox.push(item(name))).toBe(true);
    const results = await Promise.all(waiting);
    expect(results.map((result) => result.value?.name)).toEqual(['a', 'b', 'c']);
    expect((await second.next()).value).toEqual(item('queued'));
  });

  it('ends an iterator on abort, waiting or not, and keeps the items for others', async () => {
    const inbox = inboxOf();
    const controller = new AbortController();
    const iterator = inbox.iterate(controller.signal);
    const waiting = iterator.next();
    controller.abort();
    expect(await waiting).toEqual({ done: true, value: undefined });
    inbox.push(item('a'));
    expect((await iterator.next()).done).toBe(true);
    expect((await inbox.iterate(AbortSignal.abort()).next()).done).toBe(true);
    expect(inbox.take()).toEqual([item('a')]);
  });

  it('can be left in the middle of a wait', async () => {
    const inbox = inboxOf();
    const iterator = inbox.iterate();
    const waiting = iterator.next();
    await iterator.return?.();
    expect((await waiting).done).toBe(true);
    inbox.push(item('a'));
    expect(inbox.size).toBe(1);
    for await (const received of inbox.iterate()) {
      expect(received).toEqual(item('a'));
      break;
    }
    expect(inbox.size).toBe(0);
  });

  it('on close ends who waits, refuses more and still gives what it has', async () => {
    const inbox = inboxOf();
    inbox.push(item('a'));
    inbox.push(item('b'));
    const late = inbox.iterate();
    const ending = inboxOf();
    const waiting = ending.iterate().next();
    ending.close();
    expect((await waiting).done).toBe(true);
    inbox.close();
    expect(inbox.push(item('c'))).toBe(false);
    expect((await late.next()).value).toEqual(item('a'));
    expect(inbox.take()).toEqual([item('b')]);
    expect((await late.next()).done).toBe(true);
  });

  it('loses and doubles nothing, whoever takes', async () => {
    const step = fc.oneof(
      fc.constant('push' as const),
      fc.constant('take' as const),
      fc.nat(2).map((index) => ({ next: index })),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 300 }), async (steps) => {
        const inbox = inboxOf(5, 1_000_000);
        const iterators = [inbox.iterate(), inbox.iterate(), inbox.iterate()];
        const pending: Promise<IteratorResult<InboxItem, undefined>>[] = [];
        const accepted: string[] = [];
        const seen: string[] = [];
        for (const [index, action] of steps.entries()) {
          if (action === 'push') {
            if (inbox.push(item(String(index)))) accepted.push(String(index));
          } else if (action === 'take') {
            seen.push(...inbox.take().map(({ name }) => name));
          } else {
            const next = iterators[action.next]?.next();
            if (next !== undefined) pending.push(next);
          }
        }
        inbox.close();
        for (const result of await Promise.all(pending))
          if (result.value !== undefined) seen.push(result.value.name);
        seen.push(...inbox.take().map(({ name }) => name));
        expect(seen.toSorted()).toEqual(accepted.toSorted());
        expect(inbox.received).toBe(accepted.length);
      }),
    );
  });

  it('stays small while it is drained one by one', async () => {
    const inbox = inboxOf(5_000, 1_000_000);
    const iterator = inbox.iterate();
    for (let index = 0; index < 20_000; index += 1) {
      if (!inbox.push(item(String(index)))) throw new Error('refused');
      if (index >= 3_000) expect((await iterator.next()).value?.name).toBe(String(index - 3_000));
    }
    expect(inbox.take()).toHaveLength(3_000);
  });
});
