import { invariant } from '../base/invariant.ts';
import { BufferStore, isMemoryLike, type MemoryLike } from '../memory/buffer-store.ts';
import type { ByteStore } from '../memory/byte-store.ts';
import type { Opcode, Slice, SliceRun } from '../transport/slice.ts';

/** One slice as a test writes it down. */
export interface SliceDescription {
  readonly opcode: Opcode;
  /** Local memory, or a store over it. */
  readonly local: MemoryLike | ByteStore;
  /** Bytes from the start of the local memory. Default 0. */
  readonly offset?: number;
  /** Bytes. Default: to the end of the local memory. */
  readonly length?: number;
  /** Address in the peer's segment. */
  readonly address: bigint | number;
}

interface Row {
  readonly opcode: Opcode;
  readonly store: ByteStore;
  readonly offset: number;
  readonly length: number;
  readonly low: number;
  readonly high: number;
}

/** A run over a list of slices, which remembers how many were taken. */
export class TestRun implements SliceRun {
  readonly name: string;
  readonly #rows: Row[];
  #taken = 0;

  constructor(slices: readonly SliceDescription[], name = 'run') {
    this.name = name;
    this.#rows = slices.map(toRow);
  }

  get size(): number {
    return this.#rows.length;
  }

  /** Slices taken so far: those with an index below this number. */
  get taken(): number {
    return this.#taken;
  }

  /** Slices not taken yet. */
  get left(): number {
    return this.#rows.length - this.#taken;
  }

  peek(into: Slice): boolean {
    const row = this.#rows[this.#taken];
    if (row === undefined) return false;
    into.opcode = row.opcode;
    into.store = row.store;
    into.offset = row.offset;
    into.length = row.length;
    into.addressLow = row.low;
    into.addressHigh = row.high;
    return true;
  }

  take(): void {
    invariant(this.#taken < this.#rows.length, `${this.name} has nothing left to take`);
    this.#taken += 1;
  }
}

function toRow(slice: SliceDescription): Row {
  const store = isMemoryLike(slice.local) ? new BufferStore(slice.local) : slice.local;
  const offset = slice.offset ?? 0;
  const address = BigInt(slice.address);
  return {
    opcode: slice.opcode,
    store,
    offset,
    length: slice.length ?? store.length - offset,
    low: Number(address & 0xffff_ffffn),
    high: Number(address >> 32n),
  };
}
