import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type {
  BatchStatus,
  ColumnResult,
  EngineOptions,
  EngineStats,
  ErrorDetails,
  Notification,
  NotificationContent,
  OpcodeName,
  Permission,
  SegmentBuffer,
  TaskStatus,
  TransferNotification,
  TransferResult,
} from '@transfer-engine/core';
import type { ShmOptions } from '@transfer-engine/transport-shm';
import type { TcpOptions } from '@transfer-engine/transport-tcp';
import { within } from './waiting.ts';

const program = fileURLToPath(new URL('../e2e/programs/engine-host.mjs', import.meta.url));
/** Longest wait for an answer; longer than any bound of what is asked for. */
const ANSWER_MS = 50_000;

/** An error of the other process, as far as it can be sent. */
export class RemoteError extends Error {
  readonly code: string | undefined;
  readonly details: ErrorDetails | undefined;
  /** When the other process sent it, in milliseconds of the machine's clock. */
  readonly atMs: number;

  constructor(plain: PlainError, atMs: number) {
    super(plain.message);
    if (plain.stack !== undefined) this.stack = `${plain.stack}\n    in another process`;
    this.name = plain.name;
    this.code = plain.code;
    this.details = plain.details;
    this.atMs = atMs;
  }
}

export interface PlainError {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  readonly code?: string;
  readonly details?: ErrorDetails;
}

export interface HostOptions extends Omit<
  EngineOptions,
  'metadata' | 'transports' | 'logger' | 'clock' | 'random'
> {
  /** URI of a store; P2P without it. */
  readonly store?: string;
  readonly tcpOptions?: TcpOptions;
  /** Shared memory as the preferred transport. */
  readonly shmOptions?: ShmOptions;
  /** User id to become before anything else; only for root. */
  readonly user?: number;
}

export interface HostRegion {
  readonly id: number;
  readonly address: bigint;
  readonly length: number;
}

export interface HostSegment {
  readonly id: number;
  readonly name: string;
  readonly buffers: readonly SegmentBuffer[];
  readonly protocols: readonly string[];
  readonly tcpDataPort: number;
  readonly tcpProtoVersion: number;
}

export interface HostRequest {
  readonly segment: number;
  readonly region: number;
  readonly localOffset?: number;
  readonly remoteAddress: bigint;
  readonly length?: number;
}

export interface HostTransferOptions {
  readonly timeoutMs?: number;
  readonly notify?: TransferNotification;
  readonly overlap?: 'allow';
  readonly transport?: string;
  /** Name for a later `abort`. */
  readonly abort?: string;
}

interface Range {
  readonly region: number;
  readonly offset?: number;
  readonly length?: number;
}

type Plain<Status> = Omit<Status, 'error' | 'notifyError'> & {
  readonly error?: PlainError;
  readonly notifyError?: PlainError;
};

type HostTaskStatus = Plain<TaskStatus>;
export type HostBatchStatus = Plain<BatchStatus> & { readonly atMs: number };

/** What programs/engine-host.mjs understands. */
interface Methods {
  create(options: HostOptions): {
    readonly name: string;
    readonly address: { readonly host: string; readonly rpcPort: number };
    readonly dataPort: number;
  };
  close(): void;
  register(options: { length: number; seed?: number; permission?: Permission }): HostRegion;
  allocate(options: { length: number; seed?: number; permission?: Permission }): HostRegion & {
    readonly hasView: boolean;
  };
  digest(options: { region: number }): string;
  unregister(options: { region: number }): void;
  fill(options: Range & { seed: number }): void;
  check(options: Range & { seed: number; at?: number }): number;
  bytes(options: Range): Uint8Array;
  open(options: { name: string; timeoutMs?: number }): HostSegment;
  refresh(options: { segment: number }): HostSegment;
  /** The segment as it is known now; nothing is fetched. */
  look(options: { segment: number }): HostSegment;
  closeSegment(options: { segment: number }): void;
  transfer(options: {
    opcode: OpcodeName;
    request: HostRequest;
    options?: HostTransferOptions;
  }): TransferResult;
  submitBatch(options: {
    requests: readonly (HostRequest & { opcode: OpcodeName })[];
    options?: HostTransferOptions;
  }): number;
  settled(options: { batch: number }): HostBatchStatus;
  overall(options: { batch: number }): Plain<BatchStatus>;
  statuses(options: { batch: number }): readonly HostTaskStatus[];
  columns(options: {
    segment: number;
    region: number;
    columns: {
      opcode: OpcodeName | Uint8Array;
      localOffset: Float64Array;
      remoteAddress: BigUint64Array | Float64Array;
      length: Float64Array;
    };
    options?: HostTransferOptions;
  }): Omit<ColumnResult, 'errors'> & { readonly errors: readonly [number, PlainError][] };
  abort(options: { abort: string }): void;
  startStream(options: {
    segment: number;
    region: number;
    remoteAddress: bigint;
    length: number;
  }): number;
  streamRounds(options: { stream: number }): number;
  stopStream(options: { stream: number }): {
    readonly rounds: number;
    readonly failures: readonly PlainError[];
  };
  notify(options: { target: string; notification: NotificationContent }): void;
  takeNotifications(): readonly Notification[];
  probe(options: { target: string; options?: { timeoutMs?: number } }): boolean;
  stats(): EngineStats;
  resources(): readonly string[];
  memory(): NodeJS.MemoryUsage;
}

interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: PlainError;
  readonly atMs: number;
}

/** A process with one engine in it. */
export class EngineProcess {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<
    number,
    { resolve: (result: unknown) => void; reject: (error: Error) => void; method: string }
  >();
  readonly #ready: Promise<unknown>;
  readonly #exited: Promise<unknown>;
  #stderr = '';
  #nextId = 1;
  name = '';
  rpcPort = 0;
  dataPort = 0;

  private constructor() {
    this.#child = fork(program, [], {
      serialization: 'advanced',
      execArgv: ['--expose-gc'],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#ready = new Promise((resolve, reject) => {
      this.#waiting.set(0, { resolve, reject, method: 'start' });
    });
    this.#exited = once(this.#child, 'exit');
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString()).slice(-10_000);
    });
    this.#child.on('message', (answer: Answer) => this.#settle(answer));
    this.#child.on('exit', (code, signal) => this.#lost(`ended with ${signal ?? code}`));
  }

  /** A process whose engine is up; it is killed by `cleanup` if it is still there then. */
  static async start(
    cleanup: (step: () => unknown) => void,
    options: HostOptions = {},
  ): Promise<EngineProcess> {
    const host = new EngineProcess();
    cleanup(() => host.kill());
    await within(host.#ready, ANSWER_MS, 'the start of an engine process');
    const { name, address, dataPort } = await host.call('create', options);
    host.name = name;
    host.rpcPort = address.rpcPort;
    host.dataPort = dataPort;
    return host;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** What the process wrote to its standard error. */
  get stderr(): string {
    return this.#stderr;
  }

  call<M extends keyof Methods>(
    method: M,
    ...[argument]: Parameters<Methods[M]>
  ): Promise<ReturnType<Methods[M]>> {
    const id = this.#nextId;
    this.#nextId += 1;
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, method });
      this.#child.send({ id, method, argument }, (error) => {
        if (error !== null) this.#settle({ id, error, atMs: Date.now() });
      });
    });
    return within(answer, ANSWER_MS, `"${method}" of process ${this.pid}`) as Promise<
      ReturnType<Methods[M]>
    >;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends the process at once; resolves when it is gone. */
  async kill(): Promise<void> {
    if (this.running) this.#child.kill('SIGKILL');
    await this.#exited;
  }

  #settle({ id, result, error, atMs }: Answer): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    if (error === undefined) waiting.resolve(result);
    else waiting.reject(new RemoteError(error, atMs));
  }

  #lost(why: string): void {
    for (const { reject, method } of this.#waiting.values()) {
      reject(new Error(`process ${this.pid} ${why} during "${method}"\n${this.#stderr}`));
    }
    this.#waiting.clear();
  }
}
