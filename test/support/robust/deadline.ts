import { marksOf } from './oracle.ts';
import { startInitiator, startTarget } from './parties.ts';
import { SAMPLED, type Scenario } from './rounds.ts';
import { Stage } from './stage.ts';
import { large, small, Trial } from './trial.ts';

const NEIGHBOUR_MS = 10_000;
/** Longest deadline that is tried first, in milliseconds; the next ones follow what came of it. */
const FIRST_GUESS_MS = 8;

/** A deadline comes in the middle of a batch; batches with later ones complete. */
export const deadline: Scenario = {
  name: 'deadline',
  async open(scope, kind) {
    const stage = new Stage(await startInitiator(scope));
    const target = await startTarget(scope, kind);
    let guessMs = FIRST_GUESS_MS;
    return {
      async round(chance, index) {
        await stage.open('a', target);
        const timeoutMs = chance.int(1, Math.round(guessMs));
        const common = { target, segment: 'a' };
        const options = { timeoutMs: NEIGHBOUR_MS };
        const trial = new Trial(
          stage.initiator,
          [
            { name: 'late', ...common, ...large(chance), options: { timeoutMs } },
            { name: 'small neighbour', ...common, ...small(chance), options },
            { name: 'large neighbour', ...common, rows: 2, rowBytes: [1, 1024 * 1024], options },
          ],
          marksOf(index),
          chance,
          { exact: kind === 'own' },
        );
        await trial.prepare();
        const { batches } = await trial.run(NEIGHBOUR_MS);
        trial.expectCodes(0, /^ERR_TE_TIMEOUT$/);
        for (const batch of [1, 2]) trial.expectCompleted(batch, true);
        const hit = (batches[0]?.failed ?? 0) > 0;
        guessMs = hit ? Math.min(guessMs * 1.5, 100) : Math.max(guessMs / 2, 1);
        const findings = await stage.conclude(trial, [target], { settleFirst: kind === 'v1' });
        findings.push(...(await stage.serves(target, trial.marks)));
        if (index % SAMPLED === 0) await stage.sample([target]);
        const lateMs = (batches[0]?.elapsedMs ?? 0) - timeoutMs;
        const measured = { 'settled after the deadline, ms': hit ? lateMs : 0 };
        return {
          findings,
          measured: { ...measured, unknownBytes: trial.unknownBytes },
          hit,
          unproved: trial.unproved,
        };
      },
      finish: async () => stage.growth([target]),
    };
  },
};
