import type {
  DestinationReport,
  EngineOptions,
  EngineStats,
  OpcodeName,
  TaskState,
  TransferOptions,
} from '@transfer-engine/core';
import type { TcpOptions } from '@transfer-engine/transport-tcp';
import type { PlainError } from '../program-process.ts';

/** Bytes [offset, offset + length) that have the content `mark`. */
export type Run = readonly [offset: number, length: number, mark: number];

export interface FilledPart {
  readonly offset: number;
  readonly length: number;
  readonly mark: number;
  /** Where in the content the part starts. */
  readonly at: number;
}

export interface Place {
  readonly name: string;
  readonly rpcPort: number;
  readonly dataPort: number;
  readonly address: bigint;
}

export interface ProcessState {
  readonly resources: readonly string[];
  readonly stats: Pick<EngineStats, 'tasksActive' | 'slicesInFlight' | 'transports'>;
  readonly pending: readonly string[];
}

export interface ProcessMemory {
  readonly rss: number;
  readonly heapUsed: number;
  readonly arrayBuffers: number;
}

/** Memory of any program. */
export interface MemoryMethods {
  fill(options: { parts: readonly FilledPart[] }): void;
  runs(options: { offset?: number; length?: number; at?: number; marks: readonly number[] }): Run[];
  harvest(options: { marks: readonly number[]; mark: number }): Run[];
  state(options: object): ProcessState;
  memory(options: object): ProcessMemory;
}

/** What programs/robust-host.mjs understands. */
export interface HostMethods extends MemoryMethods {
  create(options: {
    length: number;
    mark?: number;
    options?: Omit<EngineOptions, 'metadata' | 'transports' | 'logger'>;
    tcpOptions?: TcpOptions;
  }): Place;
  open(options: { key: string; name: string; timeoutMs: number }): OpenedSegment;
  refresh(options: { key: string; timeoutMs: number }): OpenedSegment;
  closeSegment(options: { key: string }): void;
  probe(options: { name: string; timeoutMs: number }): boolean;
  run(plan: Plan): PlanResult;
  unregister(options: object): void;
  close(options: object): void;
}

/** What programs/robust-foreign.mjs understands. */
export interface ForeignMethods extends MemoryMethods {
  create(options: { length: number; protoVersion: 1 | 2; address: bigint; port?: number }): Place;
}

export interface OpenedSegment {
  readonly address: bigint;
  readonly dataPort: number;
}

export interface PlanRow {
  readonly opcode: OpcodeName;
  readonly segment: string;
  readonly local: number;
  /** Offset in the target's memory, and of the content. */
  readonly remote: number;
  readonly address: bigint;
  readonly length: number;
}

export interface PlanBatch {
  readonly name: string;
  readonly rows: readonly PlanRow[];
  readonly options: Pick<TransferOptions, 'timeoutMs' | 'stallTimeoutMs' | 'priority'>;
}

/** Happens when so many bytes of the first batch are known to be moved, or after a time. */
export type Action = { readonly afterBytes: number; readonly afterMs?: number } & (
  | { readonly kind: 'abort' | 'cancel' | 'tell' }
  | { readonly kind: 'close'; readonly segment: string }
  | { readonly kind: 'command'; readonly command: readonly string[] }
  | { readonly kind: 'signal'; readonly pid: number; readonly signal: NodeJS.Signals }
);

export interface Plan {
  readonly batches: readonly PlanBatch[];
  readonly marks: { readonly known: readonly number[]; readonly poison: number };
  readonly action?: Action;
}

export interface RowResult {
  readonly state: TaskState;
  readonly bytes: number;
  readonly destination?: DestinationReport;
  readonly error?: PlainError;
  /** Of a READ: what was in local memory when the batch had settled. */
  readonly runs: readonly Run[];
}

export interface BatchResult {
  readonly name: string;
  readonly completed: number;
  readonly failed: number;
  readonly durability: 'applied' | 'sent';
  readonly elapsedMs: number;
  readonly afterActionMs?: number;
  readonly rows: readonly RowResult[];
}

export interface PlanResult {
  readonly batches: readonly BatchResult[];
  readonly actedAfterBytes: number;
  readonly actionError?: PlainError;
}
