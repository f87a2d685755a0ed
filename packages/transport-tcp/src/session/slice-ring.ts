import { Opcode, type ByteStore, type Slice, type SliceRun } from '@transfer-engine/core/transport';

/** What became of a slice besides being waited for. */
export const SliceState = {
  /** To be sent, or sent and not answered. */
  live: 0,
  /** Sent, and core does not want it any more; its answer still counts if it comes. */
  unwanted: 1,
  /** Answered, and not well. */
  failed: 2,
  /** Ended before a byte of it was sent; not reported yet, because of the order. */
  dropped: 3,
  /** Ended before a byte of it was sent, and reported. */
  reported: 4,
} as const;
export type SliceState = (typeof SliceState)[keyof typeof SliceState];

/**
 * The slices of one connection, in the order in which they were taken: columns of fixed size, so
 * that a slice costs no allocation. A slice is named by its sequence number.
 */
export class SliceRing {
  readonly capacity: number;
  readonly #mask: number;
  readonly #runs: (SliceRun | undefined)[];
  readonly #stores: (ByteStore | undefined)[];
  readonly #offsets: Float64Array;
  readonly #lengths: Float64Array;
  readonly #addressLows: Uint32Array;
  readonly #addressHighs: Uint32Array;
  readonly #opcodes: Uint8Array;
  readonly #states: Uint8Array;
  readonly #checked: Uint8Array;

  /** @param capacity a power of two */
  constructor(capacity: number) {
    this.capacity = capacity;
    this.#mask = capacity - 1;
    this.#runs = new Array<SliceRun | undefined>(capacity).fill(undefined);
    this.#stores = new Array<ByteStore | undefined>(capacity).fill(undefined);
    this.#offsets = new Float64Array(capacity);
    this.#lengths = new Float64Array(capacity);
    this.#addressLows = new Uint32Array(capacity);
    this.#addressHighs = new Uint32Array(capacity);
    this.#opcodes = new Uint8Array(capacity);
    this.#states = new Uint8Array(capacity);
    this.#checked = new Uint8Array(capacity);
  }

  put(seq: number, run: SliceRun, slice: Slice): void {
    const slot = seq & this.#mask;
    this.#runs[slot] = run;
    this.#stores[slot] = slice.store;
    this.#offsets[slot] = slice.offset;
    this.#lengths[slot] = slice.length;
    this.#addressLows[slot] = slice.addressLow;
    this.#addressHighs[slot] = slice.addressHigh;
    this.#opcodes[slot] = slice.opcode;
    this.#states[slot] = SliceState.live;
    this.#checked[slot] = slice.checksum ? 1 : 0;
  }

  /** Lets go of the run and the memory. */
  clear(seq: number): void {
    const slot = seq & this.#mask;
    this.#runs[slot] = undefined;
    this.#stores[slot] = undefined;
  }

  run(seq: number): SliceRun {
    return this.#runs[seq & this.#mask] as SliceRun;
  }

  store(seq: number): ByteStore {
    return this.#stores[seq & this.#mask] as ByteStore;
  }

  offset(seq: number): number {
    return this.#offsets[seq & this.#mask] as number;
  }

  length(seq: number): number {
    return this.#lengths[seq & this.#mask] as number;
  }

  addressLow(seq: number): number {
    return this.#addressLows[seq & this.#mask] as number;
  }

  addressHigh(seq: number): number {
    return this.#addressHighs[seq & this.#mask] as number;
  }

  isRead(seq: number): boolean {
    return this.#opcodes[seq & this.#mask] === Opcode.read;
  }

  /** Whether the bytes travel with a checksum. */
  isChecked(seq: number): boolean {
    return this.#checked[seq & this.#mask] === 1;
  }

  state(seq: number): SliceState {
    return this.#states[seq & this.#mask] as SliceState;
  }

  setState(seq: number, state: SliceState): void {
    this.#states[seq & this.#mask] = state;
  }
}
