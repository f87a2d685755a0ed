import { marksOf } from './oracle.ts';
import { SpareTarget, startInitiator, startTarget } from './parties.ts';
import { SAMPLED, type Scenario } from './rounds.ts';
import { Stage } from './stage.ts';
import { STRANGERS, StrangerServer, type Stranger } from './stranger-server.ts';
import { large, small, Trial } from './trial.ts';

const NEIGHBOUR_MS = 10_000;
const PATIENCE_MS = 300;
const ENDED = /^ERR_TE_(PEER_LOST|CONNECT_FAILED|PROTOCOL|TIMEOUT|STALLED)$/;
/** What they say can be taken for the payload of a READ where there is nothing else to see. */
const TALKATIVE: ReadonlySet<Stranger> = new Set(['garbage', 'http', 'echo']);

/**
 * A target dies in the middle, and another program listens on its ports and answers something else
 * or nothing. What is tried again, and what is submitted later, ends with an error; nothing that
 * the stranger says is taken for an answer.
 */
export const stranger: Scenario = {
  name: 'port reuse by a stranger',
  async open(scope, kind) {
    const limits = { connectTimeoutMs: PATIENCE_MS, controlTimeoutMs: PATIENCE_MS };
    const stage = new Stage(await startInitiator(scope, { options: { limits } }));
    const other = await startTarget(scope, kind);
    let spare = new SpareTarget(scope, kind);
    return {
      async round(chance, index) {
        const mortal = await spare.open();
        spare = new SpareTarget(scope, kind);
        await stage.open('a', mortal);
        await stage.open('b', other);
        const common = { target: mortal, segment: 'a', options: { timeoutMs: 2 * PATIENCE_MS } };
        const beside = { target: other, segment: 'b', options: { timeoutMs: NEIGHBOUR_MS } };
        const marks = marksOf(index);
        const trial = new Trial(
          stage.initiator,
          [
            { name: 'abandoned', ...common, ...large(chance) },
            { name: 'other peer', ...beside, ...small(chance) },
          ],
          marks,
          chance,
        );
        await trial.prepare();
        const manner = STRANGERS[index % STRANGERS.length] as Stranger;
        const server = new StrangerServer(manner);
        scope.defer(() => server.close());
        const arrival = mortal.process
          .exited()
          .then(() => server.listen([mortal.place.dataPort, mortal.place.rpcPort]));
        const action = { kind: 'signal', signal: 'SIGKILL', pid: mortal.process.pid } as const;
        const afterBytes = chance.int(0, Math.floor(trial.mainBytes / 4));
        const { batches } = await trial.run(NEIGHBOUR_MS, { ...action, afterBytes });
        await arrival;
        trial.expectCodes(0, ENDED);
        trial.expectCompleted(1);
        // Framing v1 has no status that could be wrong: what comes in is taken for the payload.
        const isBlind = kind === 'v1' && TALKATIVE.has(manner);
        if (!isBlind) trial.judgeReads();
        await trial.judgeTarget(other);
        await trial.judgeLocalMemory();
        // Now with nobody but the stranger there, by the document that is still known.
        const later = new Trial(
          stage.initiator,
          [
            { name: 'to a stranger', ...common, rows: 6, rowBytes: [1, 256 * 1024] },
            { name: 'other peer', ...beside, ...small(chance) },
          ],
          marksOf(index + 1),
          chance,
        );
        await later.prepare([other]);
        await later.run(NEIGHBOUR_MS);
        later.expectCodes(0, ENDED, kind === 'v1' ? 'any' : 'allFailed');
        later.expectCompleted(1);
        const { name } = mortal.place;
        const { host } = stage.initiator;
        const timeoutMs = PATIENCE_MS;
        const isThere = await host.call('probe', { name, timeoutMs }).catch(() => false);
        if (isThere) trial.findings.push(`a stranger (${manner}) passes for "${name}"`);
        await host.call('open', { key: 'stranger', name, timeoutMs }).then(
          () => trial.findings.push(`"${name}" was opened at a stranger (${manner})`),
          () => undefined,
        );
        const findings = [
          ...trial.findings,
          ...(await stage.conclude(later, [other], { judgeReads: !isBlind })),
        ].map((finding) => `${manner}: ${finding}`);
        await server.close();
        if (index % SAMPLED === 0) await stage.sample([other]);
        return { findings, measured: {}, hit: (batches[0]?.failed ?? 0) > 0 };
      },
      finish: async () => stage.growth([other]),
    };
  },
};
