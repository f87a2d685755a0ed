import { describe, expect, it } from 'vitest';
import { BufferStore } from '../memory/buffer-store.ts';
import { ContentTags } from './content-tags.ts';
import { ProcessClock, SimClock } from './sim-clock.ts';
import { SliceLedger } from './slice-ledger.ts';

describe('SliceLedger', () => {
  const store = new BufferStore(Buffer.alloc(8));
  const slice = { isWrite: true, store, offset: 0, length: 8, address: 4096 };

  it('notices what is on its way twice, and nothing else', () => {
    const broken: string[] = [];
    const ledger = new SliceLedger((message) => broken.push(message));
    ledger.begin(slice);
    ledger.begin({ ...slice, isWrite: false });
    ledger.begin({ ...slice, store: new BufferStore(Buffer.alloc(8)) });
    ledger.begin({ ...slice, address: 4097 });
    ledger.end(slice);
    ledger.begin(slice);
    expect([broken, ledger.size]).toEqual([[], 4]);
    ledger.begin({ ...slice });
    expect(broken).toEqual([expect.stringContaining('twice')]);
    ledger.end(slice);
    ledger.end(slice);
    expect(() => ledger.end(slice)).toThrow(/on its way/);
  });

  it('throws when nobody else wants to know', () => {
    const ledger = new SliceLedger();
    ledger.begin(slice);
    expect(() => ledger.begin(slice)).toThrow(/twice/);
  });
});

describe('ContentTags', () => {
  it('copies whole blocks, and refuses parts of them', () => {
    const tags = new ContentTags(16);
    const from = new BufferStore(Buffer.alloc(64));
    const to = new BufferStore(Buffer.alloc(64));
    tags.of(from).set([1, 2, 3, 4]);
    tags.copy(from, 16, to, 32, 32);
    expect([...tags.of(to)]).toEqual([0, 0, 2, 3]);
    expect(() => tags.copy(from, 8, to, 0, 16)).toThrow(/multiples of 16/);
  });
});

describe('clocks of a world', () => {
  it('lets timers of one tick fire at one moment', () => {
    const clock = new SimClock(0.5);
    const times: number[] = [];
    for (const ms of [0.1, 0.3, 0.5, 0.6]) clock.schedule(ms, () => times.push(clock.nowMs()));
    clock.runAll();
    expect(times).toEqual([0.5, 0.5, 0.5, 1]);
    expect(clock.dateMs()).toBe(Date.UTC(2026, 0, 1) + 1);
  });

  it('takes the timers of a process with it when it dies', () => {
    const world = new SimClock();
    const process = new ProcessClock(world);
    const fired: string[] = [];
    process.schedule(1, () => fired.push('early'));
    process.schedule(5, () => fired.push('late'));
    const cancel = process.schedule(2, () => fired.push('cancelled'));
    cancel();
    expect(process.pendingTimers).toBe(2);
    world.advance(3);
    process.die();
    process.schedule(1, () => fired.push('never'));
    world.runAll();
    expect([fired, process.pendingTimers, world.pendingTimers]).toEqual([['early'], 0, 0]);
  });
});
