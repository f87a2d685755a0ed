import { EngineError, invalidArgument } from '../base/errors.ts';
import type { ByteStore } from '../memory/byte-store.ts';
import type { MemoryRegistry } from '../memory/memory-registry.ts';
import type { RegisteredRegion } from '../memory/registered-region.ts';
import { Opcode } from '../transport/slice.ts';
import {
  findOverlap,
  Submission,
  type PeerQueue,
  type SubmissionColumns,
} from '../transfer/index.ts';
import type { ColumnResult, Columns, Segment, TransferOptions } from './engine-api.ts';
import { EngineMemoryRegion } from './local-memory.ts';
import {
  checkPeer,
  overlapError,
  sliceBytesFor,
  type CheckedOptions,
} from './transfer-requests.ts';
import { outcomeOf, resultOf, type Transfers } from './transfers.ts';

/** Rows checked in one turn of the event loop: well under a millisecond. */
const ROWS_PER_TURN = 65_536;

/** Many ranges as columns: checked and prepared in slices of time, then one submission. */
export async function transferColumns(
  transfers: Transfers,
  segment: Segment,
  columns: Columns,
  options: TransferOptions,
): Promise<ColumnResult> {
  const { deps } = transfers;
  deps.assertOpen();
  const checkedOptions = transfers.checkOptions(options);
  const peer = deps.peerOf(segment, 'segment');
  checkPeer(peer, checkedOptions);
  const source = checkShape(columns, deps.registry);
  for (let from = 0; from < source.count; from += ROWS_PER_TURN) {
    checkRows(columns, source, from, Math.min(from + ROWS_PER_TURN, source.count));
    if (from + ROWS_PER_TURN < source.count) await nextTurn();
  }
  if (checkedOptions.overlap === 'refuse') await checkOverlaps(source);
  deps.assertOpen();
  options.signal?.throwIfAborted();
  const submission = await run(transfers, peer, source, checkedOptions, options.signal);
  const outcome = outcomeOf(submission);
  const { notify } = options;
  if (outcome === 'completed') {
    if (notify !== undefined) await transfers.notifyCompleted(peer, notify, submission.bytes);
  } else if (notify?.on === 'settled') {
    await transfers.notifyFailed(peer, notify, outcome);
  }
  // When all ranges made it nevertheless, they completed, and the peer may have been told so.
  const ended = outcome !== 'completed' && submission.ending?.code === 'ERR_TE_CANCELED';
  if (options.signal?.aborted === true && ended) {
    throw options.signal.reason;
  }
  const failures = [...(submission.failures ?? [])];
  return {
    ...resultOf(submission),
    states: submission.states,
    completed: source.count - submission.rowsFailed,
    failed: submission.rowsFailed,
    errors: new Map(failures.map(([row, { error }]) => [row, error])),
    destinations: new Map(failures.map(([row, { destination }]) => [row, destination])),
  };
}

interface ColumnSource {
  readonly count: number;
  readonly columns: SubmissionColumns;
  /** Length of the local region of a row. */
  readonly regionLength: (row: number) => number;
  /** Own address of the local region of a row: regions do not overlap, so their addresses tell them apart. */
  readonly regionBase: (row: number) => number;
  /** All regions that rows name; complete once every row was checked. */
  readonly regions: () => RegisteredRegion[];
}

async function run(
  transfers: Transfers,
  peer: PeerQueue,
  source: ColumnSource,
  options: CheckedOptions,
  signal: AbortSignal | undefined,
): Promise<Submission> {
  let settle: (submission: Submission) => void = () => {};
  const settled = new Promise<Submission>((resolve) => {
    settle = resolve;
  });
  const regions = source.regions();
  const submission = new Submission({
    peer,
    columns: source.columns,
    sliceBytes: sliceBytesFor(peer, options.transport, transfers.deps.limits.sliceBytes),
    priority: options.priority,
    transportName: options.transport,
    states: new Uint8Array(source.count),
    regions,
    onSettled: settle,
  });
  submission.stallMs = options.stallMs;
  submission.checksum = options.checksum;
  for (let from = 0; from < source.count; from += ROWS_PER_TURN) {
    submission.prepareRows(from, Math.min(from + ROWS_PER_TURN, source.count));
    if (from + ROWS_PER_TURN < source.count) await nextTurn();
  }
  transfers.deps.assertOpen();
  signal?.throwIfAborted();
  for (const region of regions) {
    if (!region.live) throw regionGone(region.id);
  }
  const onAbort = () => transfers.cancel(submission, signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  transfers.submit(submission, options.timeoutMs);
  try {
    return await settled;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

function checkShape(columns: Columns, registry: MemoryRegistry): ColumnSource {
  const { localOffset, remoteAddress, length, opcode } = columns;
  if (!(length instanceof Float64Array))
    throw invalidArgument('columns.length', length, 'a Float64Array');
  const count = length.length;
  const sized = (
    name: string,
    value: unknown,
    types: readonly (new (n: number) => ArrayLike<unknown>)[],
  ) => {
    const fits = types.some((type) => value instanceof type && value.length === count);
    const accepted = `a ${types.map((type) => type.name).join(' or ')} of ${count} elements (as columns.length)`;
    if (!fits) throw invalidArgument(`columns.${name}`, value, accepted);
  };
  sized('localOffset', localOffset, [Float64Array]);
  sized('remoteAddress', remoteAddress, [BigUint64Array, Float64Array]);
  if (typeof opcode !== 'string') sized('opcode', opcode, [Uint8Array]);
  else if (opcode !== 'read' && opcode !== 'write') {
    throw invalidArgument('columns.opcode', opcode, '"read", "write" or a Uint8Array of 0 and 1');
  }
  const local = resolveRegions(columns, count, registry);
  return {
    count,
    regionLength: local.regionLength,
    regionBase: local.regionBase,
    regions: local.regions,
    columns: {
      count,
      opcode: typeof opcode !== 'string' ? opcode : opcode === 'write' ? Opcode.write : Opcode.read,
      store: local.store,
      localOffset,
      remoteAddress:
        remoteAddress instanceof Float64Array
          ? remoteAddress
          : new Uint32Array(remoteAddress.buffer, remoteAddress.byteOffset, 2 * count),
      length,
    },
  };
}

function resolveRegions(
  columns: Columns,
  count: number,
  registry: MemoryRegistry,
): {
  store: ByteStore | ((row: number) => ByteStore);
  regionLength: (row: number) => number;
  regionBase: (row: number) => number;
  regions: () => RegisteredRegion[];
} {
  const { localRegion } = columns;
  if (localRegion instanceof EngineMemoryRegion) {
    const region = localRegion.registered;
    if (registry.byId(region.id) !== region) throw regionGone(region.id);
    return {
      store: region.store,
      regionLength: () => region.length,
      regionBase: () => region.address,
      regions: () => [region],
    };
  }
  if (!(localRegion instanceof Uint32Array) || localRegion.length !== count) {
    throw invalidArgument(
      'columns.localRegion',
      localRegion,
      `a region of this engine, or a Uint32Array of ${count} region ids`,
    );
  }
  const found = new Map<number, RegisteredRegion>();
  let last: RegisteredRegion | undefined;
  const regionOf = (row: number): RegisteredRegion => {
    const id = localRegion[row] as number;
    if (last?.id === id) return last;
    let region = found.get(id);
    if (region === undefined) {
      region = registry.byId(id);
      if (region === undefined) throw regionGone(id);
      found.set(id, region);
    }
    last = region;
    return region;
  };
  return {
    store: (row) => regionOf(row).store,
    regionLength: (row) => regionOf(row).length,
    regionBase: (row) => regionOf(row).address,
    regions: () => [...found.values()],
  };
}

function checkRows(columns: Columns, source: ColumnSource, from: number, to: number): void {
  const { localOffset, length, remoteAddress, opcode } = columns;
  for (let row = from; row < to; row += 1) {
    const offset = localOffset[row] as number;
    const bytes = length[row] as number;
    const space = source.regionLength(row);
    if (!Number.isSafeInteger(bytes) || bytes < 0 || bytes > space) {
      throw invalidArgument(`columns.length[${row}]`, bytes, `an integer from 0 to ${space}`);
    }
    if (!Number.isSafeInteger(offset) || offset < 0 || offset > space - bytes) {
      throw invalidArgument(
        `columns.localOffset[${row}]`,
        offset,
        `an integer from 0 to ${space - bytes}`,
      );
    }
    if (typeof opcode !== 'string' && (opcode[row] as number) > 1) {
      throw invalidArgument(`columns.opcode[${row}]`, opcode[row], '0 (read) or 1 (write)');
    }
    if (remoteAddress instanceof Float64Array) {
      const address = remoteAddress[row] as number;
      if (!Number.isSafeInteger(address) || address < 0 || !Number.isSafeInteger(address + bytes)) {
        throw invalidArgument(`columns.remoteAddress[${row}]`, address, 'an integer below 2^53');
      }
    } else if ((remoteAddress[row] as bigint) > 0xffe0_0000_0000_0000n) {
      // Only up here can the end of a range leave 64 bits; lower addresses need no bigint arithmetic.
      if ((remoteAddress[row] as bigint) + BigInt(bytes) > 1n << 64n) {
        throw invalidArgument(
          `columns.remoteAddress[${row}]`,
          remoteAddress[row],
          'a range below 2^64',
        );
      }
    }
  }
}

/** Looks for ranges that are written to twice, in steps that leave the event loop free. */
async function checkOverlaps({ columns, regionBase }: ColumnSource): Promise<void> {
  const { count, opcode, remoteAddress, localOffset, length } = columns;
  for (const wanted of [Opcode.write, Opcode.read]) {
    if (typeof opcode === 'number' && opcode !== wanted) continue;
    const start = new Float64Array(count);
    // Rows of the other kind do not count: they get no length.
    const lengths = typeof opcode === 'number' ? length : new Float64Array(count);
    for (let row = 0; row < count; row += 1) {
      if (row % ROWS_PER_TURN === ROWS_PER_TURN - 1) await nextTurn();
      if (typeof opcode !== 'number') {
        if (opcode[row] !== wanted) continue;
        lengths[row] = length[row] as number;
      }
      start[row] =
        wanted === Opcode.read
          ? regionBase(row) + (localOffset[row] as number)
          : remoteAddress instanceof Float64Array
            ? (remoteAddress[row] as number)
            : (remoteAddress[2 * row + 1] as number) * 2 ** 32 + (remoteAddress[2 * row] as number);
    }
    const search = findOverlap({ count, start, length: lengths });
    let step = search.next();
    for (; step.done !== true; step = search.next()) await nextTurn();
    if (step.value !== undefined) throw overlapError('columns', ...step.value);
  }
}

function regionGone(id: number): EngineError {
  return new EngineError(
    'ERR_TE_ADDRESS_NOT_REGISTERED',
    `region ${id} is not registered with this engine (any more)`,
    { details: { region: id } },
  );
}

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));
