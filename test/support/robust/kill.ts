import { marksOf } from './oracle.ts';
import { SpareTarget, startInitiator, startTarget } from './parties.ts';
import { SAMPLED, type Scenario } from './rounds.ts';
import { Stage } from './stage.ts';
import { large, small, Trial } from './trial.ts';

const BOUND_MS = 10_000;
const GONE = /^ERR_TE_(PEER_LOST|CONNECT_FAILED)$/;

/** A target is killed in the middle; requests of others complete, and its successor is served. */
export const killTarget: Scenario = {
  name: 'kill -9 of the target',
  async open(scope, kind) {
    const stage = new Stage(await startInitiator(scope));
    const other = await startTarget(scope, kind);
    let spare = new SpareTarget(scope, kind);
    return {
      async round(chance, index) {
        const mortal = await spare.open();
        spare = new SpareTarget(scope, kind);
        const findings = await stage.serves(mortal, marksOf(index + 1));
        await stage.open('a', mortal);
        await stage.open('b', other);
        const options = { timeoutMs: BOUND_MS };
        const common = { target: mortal, segment: 'a', options };
        const trial = new Trial(
          stage.initiator,
          [
            { name: 'killed', ...common, ...large(chance) },
            { name: 'killed too', ...common, ...small(chance) },
            { name: 'other peer', target: other, segment: 'b', ...small(chance), options },
          ],
          marksOf(index),
          chance,
        );
        await trial.prepare();
        const action = { kind: 'signal', signal: 'SIGKILL', pid: mortal.process.pid } as const;
        const afterBytes = chance.int(0, Math.floor(trial.mainBytes / 4));
        const { batches } = await trial.run(BOUND_MS, { ...action, afterBytes });
        await mortal.process.exited();
        for (const batch of [0, 1]) trial.expectCodes(batch, GONE);
        trial.expectCompleted(2);
        findings.push(...(await stage.conclude(trial, [other])));
        if (index % SAMPLED === 0) await stage.sample([other]);
        const settledMs = batches[0]?.afterActionMs ?? 0;
        const measured = { 'settled after the end, ms': settledMs };
        return { findings, measured, hit: (batches[0]?.failed ?? 0) > 0 };
      },
      finish: async () => stage.growth([other]),
    };
  },
};

/** An initiator is killed in the middle: the target keeps nothing of it, and serves the next one. */
export const killInitiator: Scenario = {
  name: 'kill -9 of the initiator',
  async open(scope, kind) {
    const target = await startTarget(scope, kind);
    let spare = startInitiator(scope);
    return {
      async round(chance, index) {
        const stage = new Stage(await spare);
        spare = startInitiator(scope);
        await stage.open('a', target);
        const options = { timeoutMs: BOUND_MS };
        const common = { target, segment: 'a', options };
        const trial = new Trial(
          stage.initiator,
          [
            { name: 'killed', ...common, ...large(chance) },
            { name: 'killed too', ...common, ...small(chance) },
          ],
          marksOf(index),
          chance,
        );
        await trial.prepare();
        const afterBytes = chance.int(0, Math.floor(trial.mainBytes / 2));
        const { pid } = stage.initiator.process;
        const findings: string[] = [];
        await trial.run(BOUND_MS, { kind: 'signal', signal: 'SIGKILL', pid, afterBytes }).then(
          () => findings.push('the initiator was not killed'),
          () => undefined,
        );
        await stage.initiator.process.exited();
        const killedAt = performance.now();
        findings.push(...(await target.leaks('target')));
        const quietMs = performance.now() - killedAt;
        const { partial } = await trial.judgeOrphan(target);
        const next = new Stage(await spare);
        findings.push(...trial.findings, ...(await next.serves(target, trial.marks)));
        if (index % SAMPLED === 0) await target.sample();
        return { findings, measured: { 'target quiet after, ms': quietMs }, hit: partial };
      },
      finish: async () => {
        await spare;
        return target.growth('target');
      },
    };
  },
};
