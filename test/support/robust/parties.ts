import type { EngineOptions } from '@transfer-engine/core';
import type { TcpOptions } from '@transfer-engine/transport-tcp';
import { ProgramProcess, type ProgramOptions } from '../program-process.ts';
import { until } from '../waiting.ts';
import type {
  ForeignMethods,
  HostMethods,
  MemoryMethods,
  Place,
  ProcessMemory,
  ProcessState,
} from './programs.ts';
import type { Scope } from './scope.ts';

/** Targets of our own kind; those that speak only the wire of C++, with either framing. */
export type Kind = 'own' | 'v2' | 'v1';
export const KINDS: readonly Kind[] = ['own', 'v2', 'v1'];

const MIB = 1024 * 1024;
/** Room for all requests of a round, of all targets. */
export const INITIATOR_BYTES = 40 * MIB;
export const TARGET_BYTES = 20 * MIB;
/** How long a process may take until it is as it was before. */
const QUIET_MS = 15_000;

/** A process with memory. */
export class Party {
  readonly process: ProgramProcess<MemoryMethods>;
  readonly length: number;
  place: Place = { name: '', rpcPort: 0, dataPort: 0, address: 0n };
  #baseline: readonly string[] = [];
  readonly #samples: ProcessMemory[] = [];

  constructor(process: ProgramProcess<MemoryMethods>, length: number) {
    this.process = process;
    this.length = length;
  }

  async settleDown(place: Place): Promise<void> {
    this.place = place;
    // A socket that somebody has open or shuts down at this moment does not belong to it.
    const { resources } = await this.state();
    this.#baseline = resources.filter((name) => LASTING.has(name));
  }

  fill(parts: Parameters<MemoryMethods['fill']>[0]['parts']): Promise<void> {
    return this.process.call('fill', { parts });
  }

  runs(options: Parameters<MemoryMethods['runs']>[0]) {
    return this.process.call('runs', options);
  }

  harvest(options: Parameters<MemoryMethods['harvest']>[0]) {
    return this.process.call('harvest', options);
  }

  state(): Promise<ProcessState> {
    return this.process.call('state', {});
  }

  /** Waits until no session, transfer or handle is left but those from the start. */
  async leaks(who: string): Promise<string[]> {
    let last: string[] = [];
    const quiet = async () => {
      last = leaksIn(await this.state(), this.#baseline);
      return last.length === 0;
    };
    return until(quiet, QUIET_MS, who).then(
      () => [],
      () => last.map((what) => `leak, ${who}: ${what} after ${QUIET_MS} ms`),
    );
  }

  async sample(): Promise<void> {
    this.#samples.push(await this.process.call('memory', {}));
  }

  /** Growth since the first quarter of the samples. */
  growth(who: string): string[] {
    const first = this.#samples[Math.ceil(this.#samples.length / 4)];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined) return [];
    return (Object.keys(GROWTH_MAX) as (keyof ProcessMemory)[]).flatMap((name) => {
      const grown = last[name] - first[name];
      return grown > GROWTH_MAX[name] ? [`leak, ${who}: ${name} grew by ${grown} bytes`] : [];
    });
  }
}

/** What a program keeps for good: its channel to us and its ports. */
const LASTING: ReadonlySet<string> = new Set(['PipeWrap', 'TCPServerWrap']);

const GROWTH_MAX: Record<keyof ProcessMemory, number> = {
  rss: 96 * MIB,
  heapUsed: 8 * MIB,
  arrayBuffers: 16 * MIB,
};

function leaksIn(state: ProcessState, baseline: readonly string[]): string[] {
  const found: string[] = [];
  const expect = (what: string, actual: unknown, wanted: unknown) => {
    if (actual !== wanted) found.push(`${what} is ${String(actual)}, not ${String(wanted)}`);
  };
  const { stats, resources, pending } = state;
  const { connectionsOpened, connectionsClosed, sessionsOpen } = stats.transports['tcp'] ?? {};
  expect('resources', resources.join(), baseline.join());
  expect('pending promises', pending.join(), '');
  expect('tasksActive', stats.tasksActive, 0);
  expect('slicesInFlight', stats.slicesInFlight, 0);
  expect('connectionsClosed', connectionsClosed, connectionsOpened);
  expect('sessionsOpen', sessionsOpen, 0);
  return found;
}

export class Initiator extends Party {
  readonly host: ProgramProcess<HostMethods>;

  constructor(host: ProgramProcess<HostMethods>) {
    super(host, INITIATOR_BYTES);
    this.host = host;
  }
}

export interface StartOptions extends ProgramOptions {
  readonly options?: Omit<EngineOptions, 'metadata' | 'transports' | 'logger'>;
  readonly tcpOptions?: TcpOptions;
}

export async function startInitiator(
  scope: Scope,
  { options, tcpOptions, ...program }: StartOptions = {},
): Promise<Initiator> {
  const process = new ProgramProcess<HostMethods>('robust-host.mjs', program);
  scope.defer(() => process.kill());
  await process.ready();
  const party = new Initiator(process);
  await party.settleDown(
    await process.call('create', {
      length: INITIATOR_BYTES,
      ...(options === undefined ? {} : { options }),
      ...(tcpOptions === undefined ? {} : { tcpOptions }),
    }),
  );
  return party;
}

/** A target's process; its engine or listeners are made by `open`. */
export class SpareTarget {
  readonly #kind: Kind;
  readonly #process: ProgramProcess<HostMethods> | ProgramProcess<ForeignMethods>;

  constructor(scope: Scope, kind: Kind, program: ProgramOptions = {}) {
    this.#kind = kind;
    const process =
      kind === 'own'
        ? new ProgramProcess<HostMethods>('robust-host.mjs', program)
        : new ProgramProcess<ForeignMethods>('robust-foreign.mjs', program);
    this.#process = process;
    scope.defer(() => process.kill());
  }

  ready(): Promise<void> {
    return this.#process.ready();
  }

  /**
   * @param port of the control port; 0 lets the system choose
   * @param address of the buffer, for targets that are not of our kind
   * @param mark content of the buffer from the start
   */
  async open({
    port = 0,
    address = 0x7f00_0000_1000n,
    mark,
  }: { port?: number; address?: bigint; mark?: number } = {}): Promise<Party> {
    const kind = this.#kind;
    const length = TARGET_BYTES;
    const content = mark === undefined ? {} : { mark };
    await this.ready();
    const place =
      kind === 'own'
        ? await (this.#process as ProgramProcess<HostMethods>).call('create', {
            ...{ length, ...content },
            options: port === 0 ? {} : { name: `127.0.0.1:${port}` },
          })
        : await (this.#process as ProgramProcess<ForeignMethods>).call('create', {
            ...{ length, ...content },
            protoVersion: kind === 'v1' ? 1 : 2,
            address,
            port,
          });
    const party = new Party(this.#process, length);
    await party.settleDown(place);
    return party;
  }
}

export function startTarget(
  scope: Scope,
  kind: Kind,
  program: ProgramOptions = {},
): Promise<Party> {
  return new SpareTarget(scope, kind, program).open();
}
