import { describe, it } from 'vitest';
import { SCENARIOS } from './scenarios.ts';

const SEEDS = 20;

describe('bounds that need a certain situation', () => {
  for (const [name, run] of Object.entries(SCENARIOS)) {
    it(`${name}, ${SEEDS} seeds`, async () => {
      for (let seed = 0; seed < SEEDS; seed += 1) {
        await run(seed).catch((error: unknown) => {
          throw new Error(`${name}, seed ${seed}: ${String(error)}`, { cause: error });
        });
      }
    }, 120_000);
  }
});
