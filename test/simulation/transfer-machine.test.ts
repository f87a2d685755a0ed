import { describe, expect, it } from 'vitest';
import { TaskState } from '../../packages/core/src/base/error-codes.ts';
import { TransferWorld, type WorldReport } from './transfer-world.ts';

const GROUPS = 20;
const SEEDS_PER_GROUP = 500;
/** `TE_SEED=n` runs this seed alone, and prints what happened last. */
const onlySeed = process.env['TE_SEED'];

function runSeed(seed: number): WorldReport {
  const world = new TransferWorld(seed);
  try {
    return world.run();
  } catch (error) {
    const trace = onlySeed === undefined ? '' : `\n${world.trace}`;
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`seed ${seed} (TE_SEED=${seed} runs it alone): ${message}${trace}`, {
      cause: error,
    });
  }
}

if (onlySeed !== undefined) {
  it(`transfer machine, seed ${onlySeed}`, () => {
    expect(runSeed(Number(onlySeed)).rows).toBeGreaterThanOrEqual(0);
  });
} else {
  describe('transfer machine over a network where everything goes wrong', () => {
    for (let group = 0; group < GROUPS; group += 1) {
      const first = group * SEEDS_PER_GROUP;
      it(`keeps its promises, seeds ${first} to ${first + SEEDS_PER_GROUP - 1}`, () => {
        let rows = 0;
        let completed = 0;
        let retries = 0;
        const states = new Set<TaskState>();
        for (let seed = first; seed < first + SEEDS_PER_GROUP; seed += 1) {
          const report = runSeed(seed);
          for (const state of report.settledBy) states.add(state);
          if (report.calm) continue;
          rows += report.rows;
          completed += report.completed;
          retries += report.retries;
        }
        // A simulation in which everything works, or nothing does, would prove nothing.
        expect(completed).toBeGreaterThan(rows / 10);
        expect(completed).toBeLessThan((rows * 9) / 10);
        expect(retries).toBeGreaterThan(SEEDS_PER_GROUP);
        const ends = [TaskState.completed, TaskState.failed, TaskState.timeout, TaskState.canceled];
        expect([...states].sort()).toEqual([...ends].sort());
      }, 120_000);
    }

    it('does the same again with the same seed', () => {
      for (let seed = 0; seed < 100; seed += 1) expect(runSeed(seed)).toEqual(runSeed(seed));
    });
  });
}
