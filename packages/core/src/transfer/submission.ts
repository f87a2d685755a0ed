import { ERROR_CODES, TaskState } from '../base/error-codes.ts';
import type { EngineError } from '../base/errors.ts';
import { WheelEntry } from '../base/deadline-wheel.ts';
import { highWord, lowWord } from '../base/u64.ts';
import type { ByteStore } from '../memory/byte-store.ts';
import type { RegisteredRegion } from '../memory/registered-region.ts';
import type { Aftermath } from '../transport/outcome.ts';
import type { Opcode } from '../transport/slice.ts';
import { type Slice } from '../transport/slice.ts';
import type { PeerQueue, RouteState } from './peer-queue.ts';
import { RowDamage, type ByteRange, type DestinationReport } from './row-damage.ts';
import { sliceCount, sliceLength } from './slicing.ts';
import { errorOfRow } from './transfer-errors.ts';
import type { SubmissionRun } from './submission-run.ts';

/** A slice that has to be sent again. */
export interface RetrySlice {
  readonly row: number;
  readonly part: number;
  readonly length: number;
  attempts: number;
  /** What earlier attempts may have left at the destination. */
  aftermath: Aftermath;
  /** Route that ended it badly, when another one is to be preferred; otherwise undefined. */
  avoid: RouteState | undefined;
}

/** Why a row failed, and what is known about its destination. */
export interface RowFailure {
  readonly error: EngineError;
  readonly destination: DestinationReport;
}

/** Errors by row are kept for this many rows; states tell about all. */
export const ROW_ERRORS_MAX = 4096;

export type PriorityClass = 0 | 1 | 2;

/** Columns of a submission. Typed arrays may be longer than `count`. */
export interface SubmissionColumns {
  readonly count: number;
  /** One opcode for all, or one a row. */
  readonly opcode: Opcode | Uint8Array;
  /** One store for all, or a look-up by row. */
  readonly store: ByteStore | ((row: number) => ByteStore);
  readonly localOffset: Float64Array;
  /** Addresses as 32-bit words, low word first; or as numbers. */
  readonly remoteAddress: Uint32Array | Float64Array;
  readonly length: Float64Array;
}

/**
 * Ranges that were submitted together towards one peer, and how far they are.
 *
 * A range is a *row*. Rows are cut into slices while they are posted; nothing is stored for a
 * slice that goes well. The state of a row changes once, when its last slice ended.
 */
export class Submission extends WheelEntry {
  readonly peer: PeerQueue;
  readonly columns: SubmissionColumns;
  readonly sliceBytes: number;
  readonly priority: PriorityClass;
  /** Only routes of this transport are used; undefined means any. */
  readonly transportName: string | undefined;
  /** {@link TaskState} by row; {@link TaskState.waiting} until the row ended. */
  readonly states: Uint8Array;
  /** Local regions that are in use until the submission settles. */
  readonly regions: readonly RegisteredRegion[];

  /** Rows that have not ended. */
  rowsLeft: number;
  rowsFailed = 0;
  /** Bytes of slices that went well. */
  bytes = 0;
  /** Bytes of all rows. */
  totalBytes = 0;
  /** Set when something moved; cleared by the stall check. */
  progressed = true;
  /** Most attempts that one slice needed. */
  attempts = 1;
  durability: 'applied' | 'sent' = 'applied';
  usedTransport = '';
  startedMs = 0;
  settledMs = 0;
  settled = false;
  /** True while the peer's queue holds the submission. */
  queued = false;
  /** Since when the submission waits for its turn. */
  waitingSinceMs = 0;
  retries: RetrySlice[] | undefined;
  readonly runs: SubmissionRun[] = [];
  /** Failed rows, up to {@link ROW_ERRORS_MAX} of them. */
  failures: Map<number, RowFailure> | undefined;
  firstError: EngineError | undefined;
  /** Set when the submission is being ended early: the error of rows that did not make it. */
  ending: EngineError | undefined;
  onSettled: (submission: Submission) => void;
  /** Deadline in the clock's milliseconds. */
  deadlineMs = Number.POSITIVE_INFINITY;
  /** Longest time without progress while something is in flight, in milliseconds. */
  stallMs = Number.POSITIVE_INFINITY;
  /** Slices travel with a checksum. */
  checksum = false;
  onCheck: ((submission: Submission, nowMs: number) => void) | undefined;

  /** Next slice to post. */
  #row = 0;
  #part = 0;
  /** Slices that have not ended, for rows of several slices; made when the first such row is seen. */
  #slicesLeft: Uint32Array | undefined;
  #rowBytes: Float64Array | undefined;
  /** Long rows that are not cut, because no single buffer of the peer is known to hold them. */
  #uncut: Set<number> | undefined;
  /** Starts of slices that went well, by row, for rows of several slices that have not ended. */
  #appliedParts: Map<number, number[]> | undefined;
  /** Rows of several slices of which one failed for good. */
  #doomed: Map<number, RowDamage> | undefined;

  constructor(init: {
    peer: PeerQueue;
    columns: SubmissionColumns;
    sliceBytes: number;
    priority: PriorityClass;
    transportName: string | undefined;
    states: Uint8Array;
    regions: readonly RegisteredRegion[];
    onSettled: (submission: Submission) => void;
  }) {
    super();
    this.peer = init.peer;
    this.columns = init.columns;
    this.sliceBytes = init.sliceBytes;
    this.priority = init.priority;
    this.transportName = init.transportName;
    this.states = init.states;
    this.regions = init.regions;
    this.onSettled = init.onSettled;
    this.rowsLeft = init.columns.count;
  }

  override onExpire(nowMs: number): void {
    this.onCheck?.(this, nowMs);
  }

  /**
   * Prepares rows [from, to) before the submission starts: empty rows end here, long rows get
   * their counters. Done in pieces, because there may be a million rows.
   */
  prepareRows(from: number, to: number): void {
    const { length } = this.columns;
    const cutFrom = this.sliceBytes + this.sliceBytes / 4;
    for (let row = from; row < to; row += 1) {
      const bytes = length[row] as number;
      this.totalBytes += bytes;
      if (bytes === 0) {
        this.states[row] = TaskState.completed;
        this.rowsLeft -= 1;
      } else if (bytes > cutFrom) {
        this.#prepareLongRow(row, bytes);
      }
    }
  }

  #prepareLongRow(row: number, bytes: number): void {
    if (this.peer.holds(this.addressOf(row), bytes)) {
      this.#slicesLeft ??= new Uint32Array(this.columns.count);
      this.#slicesLeft[row] = sliceCount(bytes, this.sliceBytes);
    } else {
      // The peer shall judge the whole range at once, as it would for a C++ initiator: a refused
      // range must not be half written.
      (this.#uncut ??= new Set()).add(row);
    }
  }

  opcodeOf(row: number): Opcode {
    const { opcode } = this.columns;
    return typeof opcode === 'number' ? opcode : (opcode[row] as Opcode);
  }

  addressOf(row: number): bigint {
    const { remoteAddress } = this.columns;
    if (remoteAddress instanceof Float64Array) return BigInt(remoteAddress[row] as number);
    return (
      (BigInt(remoteAddress[2 * row + 1] as number) << 32n) |
      BigInt(remoteAddress[2 * row] as number)
    );
  }

  /** Bytes of the row that are known to be moved. */
  bytesOf(row: number): number {
    if (this.states[row] === TaskState.completed) return this.columns.length[row] as number;
    return this.#rowBytes?.[row] ?? 0;
  }

  get hasUnposted(): boolean {
    return this.#row < this.columns.count;
  }

  get hasRetries(): boolean {
    return this.retries !== undefined && this.retries.length > 0;
  }

  get cursorRow(): number {
    return this.#row;
  }

  get cursorPart(): number {
    return this.#part;
  }

  /**
   * Moves the cursor to a row that has something to post.
   *
   * @param mayDrop whether slices of doomed rows may be dropped on the way. A run that has taken
   * slices ends instead, so that the slices of one run are always consecutive.
   */
  findNext(mayDrop: boolean): boolean {
    const { count, length } = this.columns;
    while (this.#row < count) {
      if (length[this.#row] === 0) {
        this.#row += 1;
      } else if (this.#doomed?.has(this.#row) === true) {
        if (!mayDrop) return false;
        this.#dropRestOfRow();
      } else {
        return true;
      }
    }
    return false;
  }

  /** Length of the slice at `part` of a row. */
  sliceLengthAt(row: number, part: number): number {
    const remaining = (this.columns.length[row] as number) - part;
    if (this.#uncut?.has(row) === true) return remaining;
    return sliceLength(remaining, this.sliceBytes);
  }

  describe(row: number, part: number, length: number, into: Slice): void {
    const { columns } = this;
    const { remoteAddress, store } = columns;
    into.opcode = this.opcodeOf(row);
    into.store = typeof store === 'function' ? store(row) : store;
    into.offset = (columns.localOffset[row] as number) + part;
    into.length = length;
    into.checksum = this.checksum;
    let low: number;
    let high: number;
    if (remoteAddress instanceof Float64Array) {
      const address = (remoteAddress[row] as number) + part;
      low = lowWord(address);
      high = highWord(address);
    } else {
      low = (remoteAddress[2 * row] as number) + part;
      high = remoteAddress[2 * row + 1] as number;
      if (low >= 0x1_0000_0000) {
        high += highWord(low);
        low = lowWord(low);
      }
    }
    into.addressLow = low;
    into.addressHigh = high;
  }

  advance(length: number): void {
    this.#part += length;
    if (this.#part >= (this.columns.length[this.#row] as number)) {
      this.#row += 1;
      this.#part = 0;
    }
  }

  /** The slice of `row` that starts at `part` went well. */
  sliceDone(row: number, part: number, length: number): void {
    this.bytes += length;
    const left = this.#slicesLeft?.[row] ?? 0;
    if (left === 0) {
      this.#endRow(row, TaskState.completed);
      return;
    }
    this.#rowBytes ??= new Float64Array(this.columns.count);
    this.#rowBytes[row] = (this.#rowBytes[row] as number) + length;
    if (left > 1 || this.isDoomed(row)) {
      this.#appliedParts ??= new Map();
      const parts = this.#appliedParts.get(row);
      if (parts === undefined) this.#appliedParts.set(row, [part]);
      else parts.push(part);
    }
    this.#sliceEnded(row);
  }

  /** A slice of `row` failed for good; the rest of the row is not posted any more. */
  sliceFailed(
    row: number,
    part: number,
    length: number,
    error: EngineError,
    aftermath: Aftermath,
  ): void {
    if ((this.#slicesLeft?.[row] ?? 0) === 0) {
      const damage = new RowDamage(error);
      damage.add(part, length, aftermath);
      this.#failRow(row, damage);
      return;
    }
    this.#doom(row, error).add(part, length, aftermath);
    this.#sliceEnded(row);
  }

  /** True when slices of the row need not be tried again, because the row failed already. */
  isDoomed(row: number): boolean {
    return this.#doomed?.has(row) === true;
  }

  /** Ends everything that is not in flight with the `ending` of the submission. */
  dropUnposted(): void {
    const { ending } = this;
    if (ending === undefined) return;
    const { retries } = this;
    this.retries = undefined;
    for (const { row, part, length, aftermath } of retries ?? []) {
      this.sliceFailed(row, part, length, ending, aftermath);
    }
    // Nothing happened to any of these rows, so one record speaks for all.
    const damage = new RowDamage(ending);
    const { count, length } = this.columns;
    while (this.#row < count) {
      if (length[this.#row] === 0) {
        this.#row += 1;
      } else if ((this.#slicesLeft?.[this.#row] ?? 0) > 0) {
        this.#doom(this.#row, ending);
        this.#dropRestOfRow();
      } else {
        this.#failRow(this.#row, damage);
        this.#row += 1;
      }
    }
  }

  #doom(row: number, error: EngineError): RowDamage {
    this.#doomed ??= new Map();
    let damage = this.#doomed.get(row);
    if (damage === undefined) this.#doomed.set(row, (damage = new RowDamage(error)));
    return damage;
  }

  #dropRestOfRow(): void {
    const row = this.#row;
    const rest = (this.columns.length[row] as number) - this.#part;
    const dropped = sliceCount(rest, this.sliceBytes);
    this.#row += 1;
    this.#part = 0;
    for (let index = 0; index < dropped; index += 1) this.#sliceEnded(row);
  }

  #sliceEnded(row: number): void {
    const slicesLeft = this.#slicesLeft as Uint32Array;
    const left = (slicesLeft[row] as number) - 1;
    slicesLeft[row] = left;
    if (left > 0) return;
    const damage = this.#doomed?.get(row);
    if (damage === undefined) this.#endRow(row, TaskState.completed);
    else this.#failRow(row, damage);
    this.#appliedParts?.delete(row);
  }

  #failRow(row: number, damage: RowDamage): void {
    this.rowsFailed += 1;
    this.failures ??= new Map();
    if (this.failures.size < ROW_ERRORS_MAX) {
      const parts = this.#appliedParts?.get(row) ?? [];
      const applied = parts.map((part): ByteRange => [part, this.sliceLengthAt(row, part)]);
      const destination = damage.report(applied);
      const failure = { error: errorOfRow(this, row, damage.error, destination), destination };
      this.failures.set(row, failure);
      this.firstError ??= failure.error;
    }
    this.#endRow(row, ERROR_CODES[damage.error.code].taskState);
  }

  #endRow(row: number, state: TaskState): void {
    this.states[row] = state;
    this.rowsLeft -= 1;
  }
}
