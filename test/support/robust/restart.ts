import { freePorts } from '../free-port.ts';
import { marksOf, strangers } from './oracle.ts';
import { SpareTarget, startInitiator, startTarget, type Party } from './parties.ts';
import { SAMPLED, type Scenario } from './rounds.ts';
import { Stage } from './stage.ts';
import { large, small, Trial } from './trial.ts';

const BOUND_MS = 10_000;
const FIRST_ADDRESS = 0x7f00_0000_1000n;
/** Buffers of different starts do not overlap; what C++ peers cannot tell apart is not tried. */
const ADDRESS_STEP = 0x4000_0000n;
const ENDED = /^ERR_TE_(PEER_LOST|CONNECT_FAILED|ADDRESS_REJECTED|TIMEOUT)$/;

/**
 * A target is killed in the middle and comes back under its name: the same control port, another
 * data port, other memory. No byte that was meant for the old one lands in the new one, neither
 * from the batch that was under way nor from one that is submitted with old addresses; after the
 * segment has been read again, transfers work.
 */
export const restart: Scenario = {
  name: 'restart of the peer',
  async open(scope, kind) {
    const stage = new Stage(await startInitiator(scope));
    const other = await startTarget(scope, kind);
    const port = await freePorts(1);
    let starts = 0n;
    const start = (spare: SpareTarget, mark: number): Promise<Party> => {
      starts += 1n;
      return spare.open({ port, mark, address: FIRST_ADDRESS + starts * ADDRESS_STEP });
    };
    let spare = new SpareTarget(scope, kind);
    let current = await start(spare, marksOf(0).old);
    spare = new SpareTarget(scope, kind);
    return {
      async round(chance, index) {
        const before = current;
        const marks = marksOf(2 * index);
        await stage.open('a', before);
        await stage.open('b', other);
        const options = { timeoutMs: BOUND_MS };
        const common = { target: before, segment: 'a', options };
        const beside = { target: other, segment: 'b', options };
        const trial = new Trial(
          stage.initiator,
          [
            { name: 'interrupted', ...common, ...large(chance) },
            { name: 'interrupted too', ...common, ...small(chance) },
            { name: 'other peer', ...beside, ...small(chance) },
          ],
          marks,
          chance,
        );
        await trial.prepare();
        await spare.ready();
        const successor = before.process.exited().then(() => start(spare, marks.probe));
        const action = { kind: 'signal', signal: 'SIGKILL', pid: before.process.pid } as const;
        const afterBytes = chance.int(0, Math.floor(trial.mainBytes / 4));
        const { batches } = await trial.run(BOUND_MS, { ...action, afterBytes });
        current = await successor;
        spare = new SpareTarget(scope, kind);
        for (const batch of [0, 1]) trial.expectCodes(batch, ENDED);
        trial.expectCompleted(2);
        trial.judgeReads();
        await trial.judgeTarget(other);
        await trial.judgeLocalMemory();

        const stale = new Trial(
          stage.initiator,
          [{ name: 'old addresses', ...common, ...small(chance) }],
          marksOf(2 * index + 1),
          chance,
        );
        await stale.prepare([]);
        await stale.run(BOUND_MS);
        stale.expectCodes(0, ENDED, kind === 'v1' ? 'any' : 'allFailed');
        stale.judgeReads();
        const findings = [...trial.findings, ...stale.findings];
        const known = [marks.probe];
        const landed = await current.runs({ marks: known });
        for (const [at, length, mark] of strangers(landed, 0, current.length, known)) {
          findings.push(`the new memory changed: ${length} bytes at ${at} are ${mark}`);
        }
        const { host } = stage.initiator;
        const { address } = await host.call('refresh', { key: 'a', timeoutMs: BOUND_MS });
        if (address !== current.place.address) findings.push('the old buffers are still known');
        await stage.closeAll();
        findings.push(...(await stage.serves(current, marksOf(2 * index + 1))));
        findings.push(...(await stage.leaks([other, current])));
        if (index % SAMPLED === 0) await stage.sample([other]);
        return { findings, measured: {}, hit: (batches[0]?.failed ?? 0) > 0 };
      },
      finish: async () => stage.growth([other]),
    };
  },
};
