import { describe, expect, it } from 'vitest';
import { PLANTED_BUGS, type PlantedBug } from './planted-bugs.ts';

const SEEDS = 600;

/** The first seed that finds the bug, and what it says of it. */
async function hunt({
  plant,
  run,
  caughtAs,
}: PlantedBug): Promise<{ seed: number; message: string }> {
  const undo = plant();
  try {
    for (let seed = 0; seed < SEEDS; seed += 1) {
      try {
        await run(seed);
      } catch (error) {
        // Some bugs have more than one face; the one that is looked for comes up as well.
        if (caughtAs.test(String(error))) return { seed, message: String(error) };
      }
    }
  } finally {
    undo();
  }
  return { seed: SEEDS, message: `not caught by ${SEEDS} seeds` };
}

describe('bugs that are planted into the runtime', () => {
  for (const bug of PLANTED_BUGS) {
    it(`are caught: ${bug.name}`, async () => {
      const { seed, message } = await hunt(bug);
      expect(message).toMatch(bug.caughtAs);
      // Without the bug the same seed finds nothing.
      await bug.run(seed);
    }, 120_000);
  }
});
