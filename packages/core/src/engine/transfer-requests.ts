import { EngineError, invalidArgument } from '../base/errors.ts';
import { isU64 } from '../base/u64.ts';
import { BufferStore, isMemoryLike, toBuffer } from '../memory/buffer-store.ts';
import type { ByteStore } from '../memory/byte-store.ts';
import type { MemoryRegistry } from '../memory/memory-registry.ts';
import type { RegisteredRegion } from '../memory/registered-region.ts';
import { Opcode } from '../transport/slice.ts';
import {
  findOverlapNow,
  RowColumns,
  Submission,
  type PeerQueue,
  type PriorityClass,
  type RowColumnsPool,
} from '../transfer/index.ts';
import type {
  EngineLimits,
  OpcodeName,
  Priority,
  TransferOptions,
  TransferRequest,
} from './engine-api.ts';
import { EngineMemoryRegion } from './local-memory.ts';

const TWO_64 = 1n << 64n;
const PRIORITY_CLASSES: Readonly<Record<Priority, PriorityClass>> = { high: 0, medium: 1, low: 2 };
/** Longest time a timer can be set to. */
export const TIMEOUT_MS_MAX = 0x7fff_ffff;

/** One request after validation, in terms of rooms below. */
export interface CheckedRequest {
  readonly opcode: Opcode;
  readonly peer: PeerQueue;
  readonly store: ByteStore;
  /** Undefined when the local side is not registered. */
  readonly region: RegisteredRegion | undefined;
  readonly localOffset: number;
  readonly remoteAddress: bigint;
  readonly length: number;
}

export interface CheckedOptions {
  readonly timeoutMs: number;
  readonly stallMs: number;
  readonly overlap: 'refuse' | 'allow';
  readonly checksum: boolean;
  readonly priority: PriorityClass;
  readonly transport: string | undefined;
}

/** Finds the peer behind a segment object, or says why it cannot be used here. */
export type PeerLookup = (segment: unknown, argument: string) => PeerQueue;

/** Checks everything that can be checked on this side. No side effects. */
export function checkRequest(
  request: TransferRequest,
  opcodeName: OpcodeName,
  argument: string,
  peerOf: PeerLookup,
  registry: MemoryRegistry,
): CheckedRequest {
  if (typeof request !== 'object' || request === null) {
    throw invalidArgument(argument, request, 'a request object');
  }
  if (opcodeName !== 'read' && opcodeName !== 'write') {
    throw invalidArgument(`${argument}.opcode`, opcodeName, '"read" or "write"');
  }
  const peer = peerOf(request.segment, `${argument}.segment`);
  const local = resolveLocal(request.local, `${argument}.local`, registry);
  const localOffset = request.localOffset ?? 0;
  if (!Number.isSafeInteger(localOffset) || localOffset < 0 || localOffset > local.length) {
    throw invalidArgument(
      `${argument}.localOffset`,
      localOffset,
      `an integer from 0 to ${local.length} (the length of the local memory)`,
    );
  }
  const length = request.length ?? local.length - localOffset;
  if (!Number.isSafeInteger(length) || length < 0 || length > local.length - localOffset) {
    throw invalidArgument(
      `${argument}.length`,
      length,
      `an integer from 0 to ${local.length - localOffset} (local memory from localOffset to its end)`,
    );
  }
  const { remoteAddress } = request;
  if (!isU64(remoteAddress) || remoteAddress + BigInt(length) > TWO_64) {
    throw invalidArgument(
      `${argument}.remoteAddress`,
      remoteAddress,
      `a bigint from 0 to 2^64 - ${length} (address of the first byte in the peer's segment)`,
    );
  }
  const { store, region, base } = local;
  const opcode = opcodeName === 'write' ? Opcode.write : Opcode.read;
  return { opcode, peer, store, region, localOffset: base + localOffset, remoteAddress, length };
}

export function checkOptions(
  options: TransferOptions,
  limits: EngineLimits,
  transports: ReadonlySet<string>,
): CheckedOptions {
  const {
    timeoutMs = limits.transferTimeoutMs,
    stallTimeoutMs: stallMs = limits.stallTimeoutMs,
    priority: priorityName = 'medium',
    overlap = 'refuse',
    integrity = 'none',
    transport,
    notify,
  } = options;
  checkMilliseconds('timeoutMs', timeoutMs);
  checkMilliseconds('stallTimeoutMs', stallMs);
  const priority = PRIORITY_CLASSES[priorityName] as PriorityClass | undefined;
  if (priority === undefined) {
    throw invalidArgument('priority', priorityName, '"high", "medium" or "low"');
  }
  if (overlap !== 'refuse' && overlap !== 'allow') {
    throw invalidArgument('overlap', overlap, '"refuse" or "allow"');
  }
  if (integrity !== 'none' && integrity !== 'crc32') {
    throw invalidArgument('integrity', integrity, '"none" or "crc32"');
  }
  if (transport !== undefined && !transports.has(transport)) {
    const known = [...transports].join(', ') || 'none: no transports were given';
    throw invalidArgument('transport', transport, known);
  }
  if (notify !== undefined) {
    checkNotification(notify, 'notify');
    if (notify.on !== undefined && notify.on !== 'completed' && notify.on !== 'settled') {
      throw invalidArgument('notify.on', notify.on, '"completed" or "settled"');
    }
  }
  return { timeoutMs, stallMs, overlap, checksum: integrity === 'crc32', priority, transport };
}

function checkMilliseconds(name: string, value: unknown): void {
  if (typeof value === 'number' && value > 0 && value <= TIMEOUT_MS_MAX) return;
  throw invalidArgument(name, value, `milliseconds above 0, at most ${TIMEOUT_MS_MAX}`);
}

/** Refuses a submission that no route of the peer can carry as asked. */
export function checkPeer(peer: PeerQueue, options: CheckedOptions): void {
  const named = peer.routes.filter(
    ({ route }) => options.transport === undefined || route.transport.name === options.transport,
  );
  if (named.length === 0) {
    const reaching = peer.routes.map(({ route }) => route.transport.name).join(', ') || 'none';
    throw new EngineError(
      'ERR_TE_NOT_SUPPORTED_TRANSPORT',
      `"${peer.name}" is not reached by ${options.transport ?? 'any transport'}; transports that reach it: ` +
        `${reaching}. Leave out the option transport, or refresh the segment`,
      { details: { peer: peer.name } },
    );
  }
  if (options.checksum && !named.some(({ route }) => route.checksums === true)) {
    throw new EngineError(
      'ERR_TE_NOT_SUPPORTED_TRANSPORT',
      `"${peer.name}" does not understand checksums; only engines of this kind do, and not in strict ` +
        "mode. Leave out integrity: 'crc32'",
      { details: { peer: peer.name } },
    );
  }
}

/**
 * Refuses ranges that would be written to twice: at a peer for writes, in own memory for reads.
 */
export function checkOverlap(requests: readonly CheckedRequest[], argument: string): void {
  if (requests.length < 2 || ascend(requests)) return;
  const spaces = new Map<unknown, number[]>();
  requests.forEach((request, index) => {
    if (request.length === 0) return;
    const space = request.opcode === Opcode.write ? request.peer : memoryBehind(request.store);
    const rows = spaces.get(space);
    if (rows === undefined) spaces.set(space, [index]);
    else rows.push(index);
  });
  for (const rows of spaces.values()) {
    const found = findOverlapNow({
      count: rows.length,
      start: Float64Array.from(rows, (index) =>
        destinationStart(requests[index] as CheckedRequest),
      ),
      length: Float64Array.from(rows, (index) => (requests[index] as CheckedRequest).length),
    });
    if (found !== undefined) {
      throw overlapError(argument, rows[found[0]] as number, rows[found[1]] as number);
    }
  }
}

/** True when all destinations lie in one space and ascend: the usual case, for the price of a pass. */
function ascend(requests: readonly CheckedRequest[]): boolean {
  const first = requests[0] as CheckedRequest;
  const space = first.opcode === Opcode.write ? first.peer : memoryBehind(first.store);
  let end = Number.NEGATIVE_INFINITY;
  for (const request of requests) {
    if (request.opcode !== first.opcode) return false;
    if (request.store !== first.store || request.opcode === Opcode.write) {
      const own = request.opcode === Opcode.write ? request.peer : memoryBehind(request.store);
      if (own !== space) return false;
    }
    const start = destinationStart(request);
    if (start < end) return false;
    end = start + request.length;
  }
  return true;
}

function destinationStart(request: CheckedRequest): number {
  if (request.opcode === Opcode.write) return Number(request.remoteAddress);
  const { store } = request;
  return request.localOffset + (store instanceof BufferStore ? store.bytes.byteOffset : 0);
}

/** What tells two places in memory apart: views of one ArrayBuffer can overlap. */
function memoryBehind(store: ByteStore): unknown {
  return store instanceof BufferStore ? store.bytes.buffer : store;
}

export function overlapError(argument: string, first: number, second: number): EngineError {
  return new EngineError(
    'ERR_TE_ADDRESS_OVERLAPPED',
    `${argument}[${first}] and ${argument}[${second}] write to the same bytes; the result would be ` +
      "that of either. Take one out, or pass overlap: 'allow'",
    { details: { first, second } },
  );
}

export function checkNotification(notification: unknown, argument: string): void {
  const { name, message } = (notification ?? {}) as { name?: unknown; message?: unknown };
  if (typeof name !== 'string') throw invalidArgument(`${argument}.name`, name, 'a text');
  if (typeof message !== 'string') throw invalidArgument(`${argument}.message`, message, 'a text');
}

interface LocalSide {
  readonly store: ByteStore;
  readonly region: RegisteredRegion | undefined;
  /** Where in the store the given memory starts. */
  readonly base: number;
  readonly length: number;
}

function resolveLocal(local: unknown, argument: string, registry: MemoryRegistry): LocalSide {
  if (local instanceof EngineMemoryRegion) {
    const region = local.registered;
    if (registry.byId(region.id) !== region) {
      throw new EngineError(
        'ERR_TE_ADDRESS_NOT_REGISTERED',
        `${argument}: region ${region.id} is not registered with this engine (any more)`,
        { details: { argument, region: region.id } },
      );
    }
    return { store: region.store, region, base: 0, length: region.length };
  }
  if (!isMemoryLike(local)) {
    throw invalidArgument(
      argument,
      local,
      'a region of this engine, a Buffer, a typed array or an ArrayBuffer',
    );
  }
  const bytes = toBuffer(local);
  const window = registry.resolveLocal(bytes);
  if (window !== undefined) {
    return {
      store: window.region.store,
      region: window.region,
      base: window.offset,
      length: bytes.length,
    };
  }
  return { store: new BufferStore(bytes), region: undefined, base: 0, length: bytes.length };
}

/**
 * Makes a submission of requests that all go to the same peer.
 *
 * @param pool where the columns come from; they go back with {@link recycle}.
 */
export function toSubmission(
  requests: readonly CheckedRequest[],
  options: CheckedOptions,
  sliceBytesMax: number,
  pool: RowColumnsPool,
  onSettled: (submission: Submission) => void,
): Submission {
  const count = requests.length;
  const first = requests[0] as CheckedRequest;
  const columns = pool.acquire(count);
  const regions: RegisteredRegion[] = [];
  let oneStore = true;
  for (let row = 0; row < count; row += 1) {
    const request = requests[row] as CheckedRequest;
    columns.localOffset[row] = request.localOffset;
    columns.length[row] = request.length;
    columns.addresses[row] = request.remoteAddress;
    columns.opcodes[row] = request.opcode;
    if (request.store !== first.store) oneStore = false;
    if (request.region !== undefined && regions.at(-1) !== request.region) {
      regions.push(request.region);
    }
  }
  columns.opcode = count === 1 ? first.opcode : columns.opcodes;
  columns.store = oneStore ? first.store : (row) => (requests[row] as CheckedRequest).store;
  const submission = new Submission({
    peer: first.peer,
    columns,
    sliceBytes: sliceBytesFor(first.peer, options.transport, sliceBytesMax),
    priority: options.priority,
    transportName: options.transport,
    states: columns.states,
    regions,
    onSettled,
  });
  submission.stallMs = options.stallMs;
  submission.checksum = options.checksum;
  submission.prepareRows(0, count);
  return submission;
}

/** Gives the columns of a settled submission back; nothing of it may be read by row after this. */
export function recycle(submission: Submission, pool: RowColumnsPool): void {
  if (submission.columns instanceof RowColumns) pool.release(submission.columns);
}

/** Slices are cut for the route that is preferred now; another route takes them as they are. */
export function sliceBytesFor(peer: PeerQueue, transport: string | undefined, max: number): number {
  let wanted = max;
  for (const { route } of peer.routes) {
    if (transport !== undefined && route.transport.name !== transport) continue;
    wanted = route.sliceBytes;
    break;
  }
  // A route that wants whole requests (one connection each) gets them whole.
  return wanted === Number.POSITIVE_INFINITY ? wanted : Math.min(wanted, max);
}
