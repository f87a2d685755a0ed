import type { EngineError } from '../base/errors.ts';
import type { TaskState } from '../base/error-codes.ts';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { Random } from '../base/random.ts';
import type { MemoryLike } from '../memory/buffer-store.ts';
import type { Permission } from '../memory/permission.ts';
import type { MetadataStore } from '../metadata/metadata-store.ts';
import type { ControlLinks } from '../control/control-links.ts';
import type { DestinationReport, RetryPolicy } from '../transfer/index.ts';
import type { TransportFactory } from '../transport/transport.ts';

/** Bounds that a user may change; every one has a finite default. */
export interface EngineLimits {
  /** Time a transfer may take when the call does not say, in milliseconds. Default 120,000. */
  readonly transferTimeoutMs: number;
  /** Longest time without progress while something is in flight. Default 30,000. */
  readonly stallTimeoutMs: number;
  /** Bytes in flight towards one peer; a single longer slice still goes. Default 64 MiB. */
  readonly inFlightBytesPerPeer: number;
  /** Bytes submitted for one peer above which `segment.ready()` waits. Default 256 MiB. */
  readonly pendingBytesPerPeer: number;
  /** Connecting to a control port. Default 5,000 (`MC_HANDSHAKE_CONNECT_TIMEOUT`). */
  readonly connectTimeoutMs: number;
  /** One exchange on a control port. Default 10,000. */
  readonly controlTimeoutMs: number;
  /** Largest control frame, both ways, in bytes. Default 1 MiB (`MC_HANDSHAKE_MAX_LENGTH`). */
  readonly controlFrameBytes: number;
  /** Received notifications that wait to be taken. Default 65,536; more are refused. */
  readonly inboxNotifications: number;
  /** Slices that core cuts for transports that cut, in bytes. Default 1 MiB. */
  readonly sliceBytes: number;
  /** A slice is tried at most this often. Default 4 (`MC_RETRY_CNT` + 1 when set). */
  readonly attempts: number;
  /** Memory registered at once: regions. Default 1,048,576. */
  readonly regions: number;
}

export interface EngineOptions {
  /**
   * Where segments find each other: "P2PHANDSHAKE" (default), or a store. Stores are made by
   * `@transfer-engine/metadata` (`openStore(uri)`); the engine closes a store it was given.
   */
  readonly metadata?: 'P2PHANDSHAKE' | MetadataStore;
  /**
   * Name of the local segment. In P2P mode `host`, `host:port` or `[v6]:port`: the host is what
   * peers dial, the port is listened on if it is given. With a store, any name. Default
   * "127.0.0.1" (P2P).
   */
  readonly name?: string;
  /** Host that peers dial, with a store. Default `MC_TCP_BIND_ADDRESS`, else the first address up. */
  readonly host?: string;
  /**
   * Address to listen on. Default: the advertised host when it is a loopback address, else every
   * interface, both families.
   */
  readonly bindHost?: string;
  /** Control port; 0 or absent lets the system choose (inside MC_MIN/MAX_RPC_PORT when set). */
  readonly rpcPort?: number;
  /** Transports, in the order of preference. */
  readonly transports?: readonly TransportFactory[];
  /** Shaped like pino's. Default: silent. */
  readonly logger?: Logger;
  readonly limits?: Partial<EngineLimits>;
  /** Leaves out of documents what only our own engines understand. Default false. */
  readonly strict?: boolean;
  /** Key prefix component of stores (`MC_METADATA_CLUSTER_ID`). */
  readonly clusterId?: string;
  /** Environment to read MC_* variables from. Default `process.env`. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Decides what follows when a slice ends badly. Default: {@link standardRetryPolicy}. */
  readonly retryPolicy?: RetryPolicy;
  /** For tests and simulations: what stands in for sockets of control ports, time and chance. */
  readonly controlLinks?: ControlLinks;
  readonly clock?: Clock;
  readonly random?: Random;
}

/** A registered range of memory. The memory stays the caller's; keep it as long as the region. */
export interface MemoryRegion {
  readonly id: number;
  /** First address in the segment; peers name bytes by address. */
  readonly address: bigint;
  readonly length: number;
  readonly location: string;
  readonly permission: Permission;
  /**
   * The memory itself, not a copy.
   * @throws EngineError `ERR_TE_NOT_IMPLEMENTED` when it is not in the memory of this process
   * (`hasView` is false): use `read` and `write` then.
   */
  readonly bytes: Buffer;
  readonly hasView: boolean;
  /**
   * A window on the memory itself. Memory that is longer than one Buffer can be is seen through
   * several of these.
   * @throws EngineError `ERR_TE_NOT_IMPLEMENTED` when it is not in the memory of this process
   */
  view(offset: number, length: number): Buffer;
  /** Copies bytes of the region, from `offset` on, into `target`. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /** Copies `source` into the region at `offset`. */
  write(offset: number, source: Uint8Array): Promise<void>;
  /**
   * Withdraws the region. When the promise resolves nobody reads or writes it any more.
   * @throws EngineError `ERR_TE_BATCH_BUSY` while own transfers use it (with `busy: 'refuse'`).
   */
  unregister(options?: UnregisterOptions): Promise<void>;
}

export interface UnregisterOptions {
  /** Publish the segment's document without the region now. Default true. */
  readonly publish?: boolean;
  /**
   * What happens to transfers that use the region right now. No new one starts in any case.
   * - `refuse` (default): own transfers make the call fail; transfers of peers are cut.
   * - `wait`: all may end by themselves until `timeoutMs`; then they are cut.
   * - `fence`: all are cut at once; own ones end as canceled.
   */
  readonly busy?: 'refuse' | 'wait' | 'fence';
  /** For `wait`, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number;
}

export interface RegisterOptions {
  /** "cpu:0", "cuda:1" or "*" (default). */
  readonly location?: string;
  /** Default "global-read-write". */
  readonly permission?: Permission;
  /** Publish the segment's document now. Default true; false leaves it to the next publication. */
  readonly publish?: boolean;
}

export interface AllocateOptions extends RegisterOptions {
  /**
   * Whose kind of memory: "shm", "rdma". Default: the first transport that allocates; if none
   * does, memory of this process.
   */
  readonly transport?: string;
  /** Name of a shared object that exists already, and where in it to begin. */
  readonly shmPath?: string;
  readonly shmOffset?: number;
}

export interface SegmentBuffer {
  readonly name: string;
  readonly address: bigint;
  readonly length: number;
}

/** A peer's segment (or our own), opened by name. */
export interface Segment {
  /** 0 for our own segment, otherwise counted up from 1. */
  readonly id: number;
  readonly name: string;
  readonly buffers: readonly SegmentBuffer[];
  readonly protocols: readonly string[];
  /** 0 when the segment has no TCP data port. */
  readonly tcpDataPort: number;
  /** Framing that the TCP data port speaks: 1 or 2. */
  readonly tcpProtoVersion: number;
  /**
   * Resolves when no more than `limits.pendingBytesPerPeer` bytes wait for this peer. Producers
   * that await it before each submission never fill the memory with requests.
   */
  ready(options?: { readonly signal?: AbortSignal }): Promise<void>;
  /** Fetches the document again; the buffers change in place of the old ones. */
  refresh(options?: OpenOptions): Promise<void>;
  /** Gives up connections when nobody else has the segment open. */
  close(): Promise<void>;
}

export interface OpenOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

export type OpcodeName = 'read' | 'write';

/**
 * What to move. READ copies from the peer to local memory, WRITE the other way.
 *
 * The local side is a region with an offset, or any view (need not be registered unless the
 * transport asks for it). It must not change (WRITE) or be used (READ) until the result is there.
 */
export interface TransferRequest {
  readonly segment: Segment;
  readonly local: MemoryRegion | MemoryLike;
  /** Bytes from the start of `local`. Default 0. */
  readonly localOffset?: number;
  /** Absolute address in the peer's segment (`segment.buffers[i].address` + offset). */
  readonly remoteAddress: bigint;
  /** Bytes. Default: from `localOffset` to the end of `local`. 0 completes without traffic. */
  readonly length?: number;
}

export interface BatchRequest extends TransferRequest {
  readonly opcode: OpcodeName;
}

export interface NotificationContent {
  readonly name: string;
  readonly message: string;
}

/** A notification that belongs to a transfer. */
export interface TransferNotification extends NotificationContent {
  /**
   * `completed` (default): sent only when every request completed, as C++ does. `settled`: sent
   * however they ended, with the outcome; peers that cannot read an outcome (C++) are only told of
   * completion.
   */
  readonly on?: 'completed' | 'settled';
}

export interface Notification extends NotificationContent {
  /** Segment of the sender; absent for C++ senders. */
  readonly from?: string;
  /** How the transfer ended; absent when there was none, and for C++ senders. */
  readonly outcome?: 'completed' | 'failed' | 'canceled';
}

export type Priority = 'high' | 'medium' | 'low';

export interface TransferOptions {
  /** Aborting rejects with the signal's reason, after the source is quiescent. */
  readonly signal?: AbortSignal;
  /** Milliseconds from submission. Default `limits.transferTimeoutMs`. */
  readonly timeoutMs?: number;
  /** Milliseconds without progress. Default `limits.stallTimeoutMs`. */
  readonly stallTimeoutMs?: number;
  /** Sent to the segment of the first request when the submission ended. */
  readonly notify?: TransferNotification;
  /**
   * Whether ranges that are written to may overlap inside one submission. Default `refuse`:
   * overlapping ranges would end up with bytes of either. Addresses above 2^53 are not compared.
   */
  readonly overlap?: 'refuse' | 'allow';
  /**
   * `crc32`: every slice carries a checksum, which the receiver compares before it answers. Only
   * with peers that understand it; others are refused. Default `none`.
   */
  readonly integrity?: 'none' | 'crc32';
  readonly priority?: Priority;
  /** Use this transport only. */
  readonly transport?: string;
}

export interface TransferResult {
  /** Payload bytes moved. */
  readonly bytes: number;
  /** `sent`: a v1 peer cannot say whether the bytes arrived. */
  readonly durability: 'applied' | 'sent';
  /** Most attempts that one slice needed; 1 when nothing went wrong. */
  readonly attempts: number;
  readonly transport: string;
  readonly elapsedMs: number;
}

export interface TaskStatus {
  readonly state: TaskState;
  /** Bytes known to be moved; a lower bound while running and after a failure. */
  readonly bytes: number;
  readonly error?: EngineError;
  /** What is known about the destination; only after a failure. */
  readonly destination?: DestinationReport;
}

export interface BatchStatus {
  /** waiting until every task ended; then completed, or the state of the first failed task. */
  readonly state: TaskState;
  readonly bytes: number;
  readonly tasks: number;
  readonly completed: number;
  readonly failed: number;
  readonly durability: 'applied' | 'sent';
  readonly attempts: number;
  readonly transport: string;
  readonly elapsedMs: number;
  /** Error of the first failed task. */
  readonly error?: EngineError;
  /** The requests completed, but the notification that belongs to them was not delivered. */
  readonly notifyError?: EngineError;
}

export interface Batch {
  readonly capacity: number;
  /** Requests submitted so far. */
  readonly size: number;
  /**
   * Validates all requests, then hands them to the engine and returns. On an error nothing is
   * submitted. May be called again until the capacity is used up.
   */
  submit(requests: readonly BatchRequest[], options?: TransferOptions): void;
  /** State of request `index`, in the order of submission. No side effects. */
  status(index: number): TaskStatus;
  overall(): BatchStatus;
  /** Resolves when everything submitted so far ended, well or badly; never rejects. */
  readonly settled: Promise<BatchStatus>;
  /** Ends what has not ended; resolves when it is quiet. */
  cancel(reason?: unknown): Promise<BatchStatus>;
  /** @throws EngineError `ERR_TE_BATCH_BUSY` while a request runs. */
  free(): void;
}

/**
 * Many ranges at once, as columns of equal length. The arrays are read while the transfer runs and
 * must not change until it ended.
 */
export interface Columns {
  /** One for all, or 0 (read) / 1 (write) for each range. */
  readonly opcode: OpcodeName | Uint8Array;
  /** One region for all, or the region's id for each range. */
  readonly localRegion: MemoryRegion | Uint32Array;
  /** Bytes from the start of the region. */
  readonly localOffset: Float64Array;
  /** Absolute addresses in the peer's segment. */
  readonly remoteAddress: BigUint64Array | Float64Array;
  /** Bytes; 0 is allowed. */
  readonly length: Float64Array;
}

export interface ColumnResult extends TransferResult {
  /** {@link TaskState} of each range: `completed`, or why not. */
  readonly states: Uint8Array;
  readonly completed: number;
  readonly failed: number;
  /** Errors of failed ranges by index; only the first few thousand are kept. */
  readonly errors: ReadonlyMap<number, EngineError>;
  /** What is known about the destinations of the same ranges. */
  readonly destinations: ReadonlyMap<number, DestinationReport>;
}

export interface EngineStats {
  readonly segments: number;
  readonly regions: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly tasksCompleted: number;
  readonly tasksFailed: number;
  readonly slicesInFlight: number;
  /** Requests and ranges that were submitted and have not ended. */
  readonly tasksActive: number;
  readonly retries: number;
  readonly notificationsSent: number;
  readonly notificationsReceived: number;
  readonly controlRejected: number;
  readonly transports: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/** The waist of the product: everything else stands on these methods. */
export interface Engine extends AsyncDisposable {
  readonly segmentName: string;
  /** Where the control port listens, as peers dial it. */
  readonly address: { readonly host: string; readonly rpcPort: number };
  /** The local segment, for transfers inside this engine. */
  readonly localSegment: Segment;
  registerMemory(memory: MemoryLike, options?: RegisterOptions): Promise<MemoryRegion>;
  /** One publication; all regions or none. */
  registerMemoryBatch(
    list: readonly MemoryLike[],
    options?: RegisterOptions,
  ): Promise<MemoryRegion[]>;
  /**
   * Allocates memory that transports can reach at their best, and registers it. Unregistering the
   * region gives the memory back.
   */
  allocateMemory(length: number, options?: AllocateOptions): Promise<MemoryRegion>;
  openSegment(name: string, options?: OpenOptions): Promise<Segment>;
  createBatch(capacity: number): Batch;
  /** Resolves with a result also when ranges failed; rejects only for bad arguments and aborts. */
  submitColumns(
    segment: Segment,
    columns: Columns,
    options?: TransferOptions,
  ): Promise<ColumnResult>;
  read(request: TransferRequest, options?: TransferOptions): Promise<TransferResult>;
  write(request: TransferRequest, options?: TransferOptions): Promise<TransferResult>;
  notify(
    target: Segment | string,
    notification: NotificationContent,
    options?: OpenOptions,
  ): Promise<void>;
  /** Received notifications as they come; ends when the engine closes or the signal aborts. */
  notifications(options?: { readonly signal?: AbortSignal }): AsyncIterable<Notification>;
  /** Takes everything received so far. */
  takeNotifications(): Notification[];
  /** True when the peer's control port answers. */
  probe(target: Segment | string, options?: OpenOptions): Promise<boolean>;
  stats(): EngineStats;
  /**
   * Takes no new transfers and resolves when the running ones ended; what runs at the deadline is
   * canceled. Peers can still read and write registered memory until `close`.
   */
  drain(options?: { readonly deadlineMs?: number }): Promise<void>;
  /** Ends everything, withdraws documents; every pending call ends. Idempotent. */
  close(): Promise<void>;
}
