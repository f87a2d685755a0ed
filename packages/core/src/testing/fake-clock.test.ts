import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FakeClock } from './fake-clock.ts';

describe('FakeClock', () => {
  it('fires in the order of time, then of creation, at the time of each timer', () => {
    const clock = new FakeClock(100);
    const seen: string[] = [];
    const note = (name: string) => () => seen.push(`${name}@${clock.nowMs()}`);
    clock.schedule(5, note('b'));
    clock.schedule(5, note('c'));
    clock.schedule(1, note('a'));
    clock.schedule(50, note('late'));
    clock.advance(10);
    expect(seen).toEqual(['a@101', 'b@105', 'c@105']);
    expect(clock.nowMs()).toBe(110);
    expect(clock.pendingTimers).toBe(1);
    expect(clock.nextTimerMs).toBe(150);
  });

  it('does not fire what was cancelled, and cancelling late does nothing', () => {
    const clock = new FakeClock();
    let fired = 0;
    const cancel = clock.schedule(1, () => (fired += 1));
    const keep = clock.schedule(2, () => (fired += 10));
    cancel();
    cancel();
    expect(clock.pendingTimers).toBe(1);
    expect(clock.runAll()).toBe(1);
    keep();
    expect(fired).toBe(10);
    expect(clock.pendingTimers).toBe(0);
    expect(clock.nextTimerMs).toBeUndefined();
  });

  it('lets callbacks schedule, cancel and advance', () => {
    const clock = new FakeClock();
    const seen: number[] = [];
    const cancel = clock.schedule(3, () => seen.push(-1));
    clock.schedule(1, () => {
      cancel();
      clock.schedule(0, () => seen.push(clock.nowMs()));
      clock.advance(5);
      seen.push(clock.nowMs());
    });
    clock.advance(2);
    expect(seen).toEqual([1, 6]);
    expect(clock.nowMs()).toBe(6);
  });

  it('stays sound when a callback throws', () => {
    const clock = new FakeClock();
    let fired = 0;
    clock.schedule(1, () => {
      throw new Error('planted');
    });
    clock.schedule(2, () => (fired += 1));
    expect(() => clock.advance(5)).toThrow('planted');
    clock.advance(5);
    expect(fired).toBe(1);
  });

  it('stops a loop that never ends', () => {
    const clock = new FakeClock();
    const again = (): void => void clock.schedule(1, again);
    again();
    expect(() => clock.runAll(1000)).toThrow('do they never end');
  });

  it('runs until a promise is settled, and says when that cannot happen', async () => {
    const clock = new FakeClock();
    const sleep = (ms: number) =>
      new Promise<void>((resolve) => {
        clock.schedule(ms, resolve);
      });
    const work = async () => {
      await sleep(10);
      await sleep(20);
      return clock.nowMs();
    };
    expect(await clock.runUntil(work())).toBe(30);
    await expect(clock.runUntil(new Promise(() => {}))).rejects.toThrow('no timer is left');
  });

  it('agrees with a sorted list for any timers', () => {
    const timers = fc.array(
      fc.record({ delay: fc.integer({ min: 0, max: 50 }), cancel: fc.boolean() }),
    );
    fc.assert(
      fc.property(timers, (list) => {
        const clock = new FakeClock();
        const fired: number[] = [];
        const cancels = list.map(({ delay }, index) =>
          clock.schedule(delay, () => fired.push(index)),
        );
        list.forEach(({ cancel }, index) => {
          if (cancel) cancels[index]?.();
        });
        const expected = list
          .map(({ delay, cancel }, index) => ({ delay, cancel, index }))
          .filter(({ cancel }) => !cancel)
          .sort((a, b) => a.delay - b.delay || a.index - b.index)
          .map(({ index }) => index);
        clock.runAll();
        expect(fired).toEqual(expected);
      }),
    );
  });
});
