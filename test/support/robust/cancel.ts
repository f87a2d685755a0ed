import { marksOf } from './oracle.ts';
import { startInitiator, startTarget } from './parties.ts';
import type { Action } from './programs.ts';
import { SAMPLED, type Scenario } from './rounds.ts';
import { Stage } from './stage.ts';
import { large, small, Trial } from './trial.ts';

const WAYS = ['abort', 'cancel', 'close'] as const;
const BOUND_MS = 10_000;

/**
 * A batch is canceled in its middle: by a signal, by `batch.cancel`, by `segment.close`. Batches of
 * others, on the same connections where it was not the segment that was closed, complete.
 */
export const cancel: Scenario = {
  name: 'cancel',
  async open(scope, kind) {
    const stage = new Stage(await startInitiator(scope));
    const targets = [await startTarget(scope, kind), await startTarget(scope, kind)] as const;
    return {
      async round(chance, index) {
        const way = WAYS[index % WAYS.length] as (typeof WAYS)[number];
        await stage.open('a', targets[0]);
        await stage.open('b', targets[1]);
        const options = { timeoutMs: BOUND_MS };
        const neighbour = way === 'close' ? 1 : 0;
        const segment = way === 'close' ? 'b' : 'a';
        const beside = { target: targets[neighbour], segment, options };
        const trial = new Trial(
          stage.initiator,
          [
            { name: 'canceled', target: targets[0], segment: 'a', ...large(chance), options },
            { name: 'small neighbour', ...beside, ...small(chance) },
            { name: 'large neighbour', ...beside, rows: 2, rowBytes: [1, 1024 * 1024] },
            { name: 'other peer', target: targets[1], segment: 'b', ...small(chance), options },
          ],
          marksOf(index),
          chance,
          { exact: kind === 'own' },
        );
        await trial.prepare();
        const afterBytes = chance.int(0, Math.floor(trial.mainBytes / 3));
        const action: Action =
          way === 'close' ? { kind: way, afterBytes, segment: 'a' } : { kind: way, afterBytes };
        const { batches } = await trial.run(BOUND_MS, action);
        if (way === 'close') stage.forget('a');
        trial.expectCodes(0, /^ERR_TE_(CANCELED|CLOSED)$/);
        for (const batch of [1, 2]) trial.expectCompleted(batch, way !== 'close');
        trial.expectCompleted(3);
        const findings = await stage.conclude(trial, targets, { settleFirst: kind === 'v1' });
        findings.push(...(await stage.serves(targets[0], trial.marks)));
        if (index % SAMPLED === 0) await stage.sample(targets);
        const settledMs = batches[0]?.afterActionMs ?? 0;
        return {
          findings,
          measured: { [`settled after ${way}, ms`]: settledMs, unknownBytes: trial.unknownBytes },
          hit: (batches[0]?.failed ?? 0) > 0,
          unproved: trial.unproved,
        };
      },
      finish: async () => stage.growth(targets),
    };
  },
};
