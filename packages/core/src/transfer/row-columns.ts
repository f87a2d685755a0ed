import type { ByteStore } from '../memory/byte-store.ts';
import { Opcode } from '../transport/slice.ts';
import type { SubmissionColumns } from './submission.ts';

/** Larger batches are rare enough to be left to the collector. */
const POOLED_ROWS_MAX = 4096;
/** Kept for reuse in each size, in rows; bounds what a burst leaves behind. */
const POOLED_ROWS_PER_CLASS = 16_384;

/**
 * Columns for requests that came in as objects.
 *
 * Typed arrays cost half a microsecond each to make, which is more than all the rest of a small
 * transfer; so they are used again.
 */
export class RowColumns implements SubmissionColumns {
  count = 0;
  opcode: Opcode | Uint8Array = Opcode.read;
  store: ByteStore | ((row: number) => ByteStore) = NO_STORE;
  readonly capacity: number;
  readonly localOffset: Float64Array;
  readonly length: Float64Array;
  /** The same memory twice: as addresses to write, as words to read. */
  readonly addresses: BigUint64Array;
  readonly remoteAddress: Uint32Array;
  readonly opcodes: Uint8Array;
  readonly states: Uint8Array;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.localOffset = new Float64Array(capacity);
    this.length = new Float64Array(capacity);
    this.addresses = new BigUint64Array(capacity);
    this.remoteAddress = new Uint32Array(this.addresses.buffer);
    this.opcodes = new Uint8Array(capacity);
    this.states = new Uint8Array(capacity);
  }
}

const NO_STORE: ByteStore = {
  length: 0,
  readInto: () => undefined,
  writeFrom: () => undefined,
};

/** Free columns by size: a power of two of rows. */
export class RowColumnsPool {
  readonly #free: RowColumns[][] = [];

  acquire(count: number): RowColumns {
    const size = count <= 1 ? 0 : 32 - Math.clz32(count - 1);
    const columns = this.#free[size]?.pop() ?? new RowColumns(2 ** size);
    columns.count = count;
    return columns;
  }

  /** The caller keeps no reference to the columns or their arrays. */
  release(columns: RowColumns): void {
    if (columns.capacity > POOLED_ROWS_MAX) return;
    columns.states.fill(0, 0, columns.count);
    columns.store = NO_STORE;
    const free = (this.#free[31 - Math.clz32(columns.capacity)] ??= []);
    if (free.length * columns.capacity < POOLED_ROWS_PER_CLASS) free.push(columns);
  }
}
