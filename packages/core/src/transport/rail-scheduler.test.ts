import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.ts';
import { RailScheduler } from './rail-scheduler.ts';

const always = () => true;

/** Runs rails of given speeds with a window of bytes in flight; returns the bytes each moved. */
function simulate(rates: readonly number[], sizes: () => number, steps: number): number[] {
  const scheduler = new RailScheduler(rates.length);
  const moved = rates.map(() => 0);
  const queues: { bytes: number; doneMs: number; startMs: number }[][] = rates.map(() => []);
  let nowMs = 0;
  for (let step = 0; step < steps; step += 1) {
    const bytes = sizes();
    const index = scheduler.pick(bytes, (rail) => (queues[rail]?.length ?? 0) < 16);
    if (index >= 0) {
      const queue = queues[index]!;
      const startMs = Math.max(queue.at(-1)?.doneMs ?? nowMs, nowMs);
      queue.push({ bytes, startMs, doneMs: startMs + bytes / rates[index]! });
      scheduler.posted(index, bytes);
      if (step % 4 !== 3) continue;
    }
    // Time goes on to the next completion.
    const next = Math.min(...queues.map((queue) => queue[0]?.doneMs ?? Number.POSITIVE_INFINITY));
    nowMs = Math.max(nowMs, next);
    queues.forEach((queue, rail) => {
      while (queue[0] !== undefined && queue[0].doneMs <= nowMs) {
        const done = queue.shift()!;
        scheduler.finished(rail, done.bytes, done.doneMs - done.startMs);
        moved[rail]! += done.bytes;
      }
    });
  }
  queues.forEach((queue, rail) => queue.forEach(({ bytes }) => scheduler.finished(rail, bytes)));
  rates.forEach((_, rail) => expect(scheduler.inFlightBytes(rail)).toBe(0));
  return moved;
}

describe('RailScheduler', () => {
  it('conserves bytes: nothing is in flight when everything finished', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 2_000_000 }), { minLength: 1, maxLength: 200 }),
        fc.integer({ min: 1, max: 6 }),
        fc.infiniteStream(fc.boolean()),
        (sizes, rails, flags) => {
          const scheduler = new RailScheduler(rails);
          const open: { index: number; bytes: number }[] = [];
          for (const bytes of sizes) {
            const index = scheduler.pick(bytes, always);
            scheduler.posted(index, bytes);
            open.push({ index, bytes });
            if (flags.next().value) {
              const done = open.shift()!;
              scheduler.finished(done.index, done.bytes, flags.next().value ? 1 : undefined);
            }
            const total = open.reduce((sum, item) => sum + item.bytes, 0);
            let counted = 0;
            for (let rail = 0; rail < rails; rail += 1) counted += scheduler.inFlightBytes(rail);
            expect(counted).toBe(total);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it('shares equal rails equally', () => {
    const random = seededRandom(7);
    const moved = simulate(
      [1000, 1000, 1000],
      () => 1 + Math.floor(random.float() * 1_000_000),
      6000,
    );
    const mean = moved.reduce((sum, bytes) => sum + bytes, 0) / 3;
    for (const bytes of moved) expect(Math.abs(bytes - mean) / mean).toBeLessThan(0.1);
  });

  it('gives faster rails more, and slow ones still something', () => {
    const moved = simulate([4000, 1000], () => 65_536, 8000);
    expect(moved[0]! / moved[1]!).toBeGreaterThan(2.5);
    expect(moved[0]! / moved[1]!).toBeLessThan(6);
    expect(moved[1]).toBeGreaterThan(0);
  });

  it('notices when a slow rail has become fast', () => {
    const scheduler = new RailScheduler(2);
    const run = (rates: readonly [number, number], rounds: number) => {
      const counts = [0, 0];
      for (let round = 0; round < rounds; round += 1) {
        const index = scheduler.pick(65_536, always) as 0 | 1;
        counts[index]! += 1;
        scheduler.posted(index, 65_536);
        scheduler.finished(index, 65_536, 65_536 / rates[index]);
      }
      return counts;
    };
    run([1000, 10], 2000);
    const before = run([1000, 10], 1000);
    expect(before[0]).toBeGreaterThan(900);
    run([1000, 5000], 60_000);
    const after = run([1000, 5000], 1000);
    expect(after[1]).toBeGreaterThan(900);
  });

  it('never takes a rail that is out of use or has no room', () => {
    const scheduler = new RailScheduler(3);
    scheduler.setUsable(0, false);
    for (let round = 0; round < 1000; round += 1)
      expect(scheduler.pick(1, (rail) => rail !== 2)).toBe(1);
    expect(scheduler.pick(1, () => false)).toBe(-1);
    scheduler.setUsable(1, false);
    scheduler.setUsable(2, false);
    expect(scheduler.pick(1, always)).toBe(-1);
  });

  it('prefers a rail without penalty until it is busy enough', () => {
    const scheduler = new RailScheduler();
    scheduler.add(1);
    scheduler.add(4);
    const counts = [0, 0];
    for (let round = 0; round < 100; round += 1) {
      const index = scheduler.pick(1000, always);
      counts[index]! += 1;
      scheduler.posted(index, 1000);
    }
    expect(counts).toEqual([80, 20]);
  });
});
