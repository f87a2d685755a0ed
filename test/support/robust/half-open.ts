import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { findProgram } from '../services.ts';
import { marksOf } from './oracle.ts';
import { startInitiator, startTarget } from './parties.ts';
import { Relay } from './relay.ts';
import { SAMPLED, type Scenario } from './rounds.ts';
import type { Scope } from './scope.ts';
import { Stage } from './stage.ts';
import { large, small, Trial } from './trial.ts';

const run = promisify(execFile);
const BOUND_MS = 10_000;
const ENDED = /^ERR_TE_(STALLED|TIMEOUT|PEER_LOST|CONNECT_FAILED)$/;
let names = 0;

/** A place between initiator and target where packets get lost. */
interface Wire {
  /** In front of the command of every process. */
  readonly prefix: readonly string[];
  /** What the initiator dials in the place of a target's name. */
  through(target: { readonly name: string; readonly dataPort: number }): Promise<string>;
  /** Loses everything from now on, without a word to either side. */
  readonly cut: { kind: 'command'; command: readonly string[] } | { kind: 'tell' };
  /** For `tell`. */
  onTold(): void;
  /** Loses nothing any more. */
  heal(): Promise<void>;
}

/** A network of its own, with nothing but a loopback interface that can be taken down. */
async function namespaceWire(scope: Scope): Promise<Wire | undefined> {
  const ip = findProgram('ip');
  if (ip === undefined || process.getuid?.() !== 0) return undefined;
  names += 1;
  const name = `te-test-${process.pid}-${names}`;
  try {
    await run(ip, ['netns', 'add', name]);
  } catch {
    return undefined;
  }
  scope.defer(() => run(ip, ['netns', 'del', name]));
  const link = (state: string) => [ip, '-n', name, 'link', 'set', 'lo', state];
  const up = link('up');
  await run(ip, up.slice(1));
  return {
    prefix: [ip, 'netns', 'exec', name],
    through: async (target) => target.name,
    cut: { kind: 'command', command: link('down') },
    onTold: () => undefined,
    heal: async () => {
      await run(ip, up.slice(1));
    },
  };
}

async function relayWire(scope: Scope): Promise<Wire> {
  let relay: Relay | undefined;
  return {
    prefix: [],
    async through(target) {
      if (relay === undefined) {
        relay = await Relay.start(target);
        const { close } = relay;
        scope.defer(close);
      }
      return relay.name;
    },
    cut: { kind: 'tell' },
    onTold: () => relay?.swallow(),
    heal: async () => relay?.heal(),
  };
}

const scenario = (
  name: string,
  makeWire: (scope: Scope) => Promise<Wire | undefined>,
): Scenario => ({
  name,
  async open(scope, kind) {
    const wire = (await makeWire(scope)) ?? (await relayWire(scope));
    const { prefix } = wire;
    const stage = new Stage(await startInitiator(scope, { prefix }));
    const target = await startTarget(scope, kind, { prefix });
    const dialed = await wire.through(target.place);
    stage.initiator.host.on('middle', () => wire.onTold());
    return {
      async round(chance, index) {
        await stage.open('a', { place: { name: dialed } });
        const boundMs = chance.int(100, 250);
        const common = { target, segment: 'a' };
        const stalled = { timeoutMs: BOUND_MS, stallTimeoutMs: boundMs };
        const late = { timeoutMs: boundMs };
        const [options = late, others = late] = chance.shuffled([stalled, late]);
        const trial = new Trial(
          stage.initiator,
          [
            { name: 'cut', ...common, ...large(chance), options },
            { name: 'cut too', ...common, ...small(chance), options: others },
          ],
          marksOf(index),
          chance,
          // What v1 peers were sent may be lost on the way, or arrive late.
          { trustSent: false },
        );
        await trial.prepare();
        const afterBytes = chance.int(0, Math.floor(trial.mainBytes / 4));
        const { batches } = await trial.run(BOUND_MS, { ...wire.cut, afterBytes });
        for (const batch of [0, 1]) trial.expectCodes(batch, ENDED);
        // Closing does not depend on a network that loses everything.
        if (chance.isTrue()) await stage.closeAll();
        // Nothing moves now, but the target can still be asked what it has.
        await trial.judgeTarget(target);
        await wire.heal();
        const findings = await stage.conclude(trial, [target], { judged: true });
        await stage.open('service', { place: { name: dialed } });
        findings.push(...(await stage.serves(target, trial.marks)));
        if (index % SAMPLED === 0) await stage.sample([target]);
        const settledMs = (batches[0]?.afterActionMs ?? 0) - boundMs;
        return {
          findings,
          measured: { 'settled after the bound, ms': settledMs, unknownBytes: trial.unknownBytes },
          hit: (batches[0]?.failed ?? 0) > 0,
        };
      },
      finish: async () => stage.growth([target]),
    };
  },
});

/** Packets get lost in the middle, without a reset or an end of the stream to either side. */
export const halfOpen = scenario('half-open connection', namespaceWire);

/** The same by a relay that takes every byte, acknowledges it, and passes none on. */
export const swallowed = scenario('relay that swallows', async () => undefined);
