import { marksOf } from './oracle.ts';
import { startInitiator, startTarget } from './parties.ts';
import { SAMPLED, type Scenario } from './rounds.ts';
import { Stage } from './stage.ts';
import { large, small, Trial } from './trial.ts';

const NEIGHBOUR_MS = 10_000;

/**
 * A target is stopped (SIGSTOP) in the middle: the stall bound or the deadline ends the batches,
 * those of another peer complete. Then it goes on (SIGCONT), and only what was called unknown may
 * still change.
 */
export const stall: Scenario = {
  name: 'stall',
  async open(scope, kind) {
    const stage = new Stage(await startInitiator(scope));
    const targets = [await startTarget(scope, kind), await startTarget(scope, kind)] as const;
    const [stopped, other] = targets;
    return {
      async round(chance, index) {
        await stage.open('a', stopped);
        await stage.open('b', other);
        const boundMs = chance.int(100, 250);
        const bounds = [
          { timeoutMs: NEIGHBOUR_MS, stallTimeoutMs: boundMs },
          { timeoutMs: boundMs },
        ];
        const options = bounds[index % 2] ?? {};
        const options2 = { timeoutMs: NEIGHBOUR_MS };
        const common = { target: stopped, segment: 'a' };
        const beside = { target: other, segment: 'b', options: options2 };
        const trial = new Trial(
          stage.initiator,
          [
            { name: 'stopped', ...common, ...large(chance), options },
            { name: 'stopped too', ...common, ...small(chance), options: { timeoutMs: boundMs } },
            { name: 'other peer', ...beside, ...small(chance) },
          ],
          marksOf(index),
          chance,
        );
        await trial.prepare();
        const action = { kind: 'signal', signal: 'SIGSTOP', pid: stopped.process.pid } as const;
        const afterBytes = chance.int(0, Math.floor(trial.mainBytes / 4));
        const { batches } = await trial.run(NEIGHBOUR_MS, { ...action, afterBytes });
        // Who comes first takes the connection with it, and nobody proves that the peer is at rest.
        for (const batch of [0, 1])
          trial.expectCodes(batch, /^ERR_TE_(STALLED|TIMEOUT|PEER_LOST)$/);
        trial.expectCompleted(2);
        // Closing does not depend on a peer that is stopped.
        if (chance.isTrue()) await stage.closeAll();
        stopped.process.signal('SIGCONT');
        const findings = await stage.conclude(trial, targets, { settleFirst: kind === 'v1' });
        findings.push(...(await stage.serves(stopped, trial.marks)));
        if (index % SAMPLED === 0) await stage.sample(targets);
        const settledMs = (batches[0]?.afterActionMs ?? 0) - boundMs;
        return {
          findings,
          measured: {
            'settled after the bound, ms': settledMs,
            unknownBytes: trial.unknownBytes,
          },
          hit: (batches[0]?.failed ?? 0) > 0,
        };
      },
      finish: async () => stage.growth(targets),
    };
  },
};
