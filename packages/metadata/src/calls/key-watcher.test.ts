import type { WatchEvent } from '@transfer-engine/core/metadata';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { KeyWatcher, NoFeed, type FeedEvents } from './key-watcher.ts';

interface Opened {
  readonly keys: readonly string[];
  readonly events: FeedEvents;
  readonly signal: AbortSignal;
  fail(error: Error): void;
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function fixture() {
  const opened: Opened[] = [];
  const watcher = new KeyWatcher(
    (keys, events, signal) =>
      new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => resolve());
        opened.push({ keys, events, signal, fail: reject });
      }),
  );
  const log: string[] = [];
  const watch = (key: string) =>
    watcher.watch(key, ({ type, key: told }: WatchEvent) => log.push(`${type} ${told}`));
  return { log, opened, watch, watcher };
}

describe('KeyWatcher', () => {
  it('watches keys that were asked for together over one feed', async () => {
    const { log, opened, watch } = fixture();
    for (const key of ['a', 'b', 'a']) watch(key);
    await vi.advanceTimersByTimeAsync(10);
    expect(opened.map(({ keys }) => keys)).toEqual([['a', 'b']]);
    opened[0]?.events.ready();
    opened[0]?.events.change({ type: 'put', key: 'a' });
    opened[0]?.events.change({ type: 'put', key: 'unasked' });
    expect(log).toEqual(['sync a', 'sync a', 'sync b', 'put a', 'put a']);
    watch('b');
    await vi.advanceTimersByTimeAsync(10);
    expect([opened.length, log.at(-1)]).toEqual([1, 'sync b']);
  });

  it('misses nothing when keys are added: the old feed ends when the new one is ready', async () => {
    const { log, opened, watch } = fixture();
    watch('a');
    await vi.advanceTimersByTimeAsync(10);
    opened[0]?.events.ready();
    watch('b');
    await vi.advanceTimersByTimeAsync(10);
    opened[0]?.events.change({ type: 'put', key: 'a' });
    expect(opened[0]?.signal.aborted).toBe(false);
    opened[1]?.events.ready();
    expect(opened[0]?.signal.aborted).toBe(true);
    opened[0]?.events.change({ type: 'put', key: 'a' });
    expect(log).toEqual(['sync a', 'put a', 'sync b']);
  });

  it('sets up a broken feed again, with growing delays, and says so', async () => {
    const { log, opened, watch } = fixture();
    watch('a');
    await vi.advanceTimersByTimeAsync(10);
    opened[0]?.events.ready();
    opened[0]?.fail(new Error('gone'));
    await vi.advanceTimersByTimeAsync(100);
    expect(opened).toHaveLength(2);
    for (let round = 1; round < 12; round += 1) {
      opened.at(-1)?.fail(new Error('gone'));
      await vi.advanceTimersByTimeAsync(2_000);
    }
    expect(opened.length).toBeGreaterThanOrEqual(12);
    opened.at(-1)?.events.ready();
    expect(log).toEqual(['sync a', 'sync a']);
  });

  it('asks a server without feeds seldom', async () => {
    const { opened, watch } = fixture();
    watch('a');
    await vi.advanceTimersByTimeAsync(10);
    opened[0]?.fail(new NoFeed());
    await vi.advanceTimersByTimeAsync(29_000);
    expect(opened).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(opened).toHaveLength(2);
  });

  it('ends feeds that nobody needs', async () => {
    const { log, opened, watch, watcher } = fixture();
    const watches = [watch('a'), watch('a')];
    await vi.advanceTimersByTimeAsync(10);
    opened[0]?.events.ready();
    for (const { close } of watches) close();
    expect(opened[0]?.signal.aborted).toBe(true);
    opened[0]?.events.change({ type: 'put', key: 'a' });
    watcher.close();
    watch('b');
    await vi.advanceTimersByTimeAsync(60_000);
    expect([opened.length, log]).toEqual([1, ['sync a', 'sync a']]);
    expect(vi.getTimerCount()).toBe(0);
  });
});
