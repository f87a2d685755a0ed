import { joinWords } from '../base/u64.ts';
import type { ByteStore } from '../memory/byte-store.ts';
import { Opcode, type Slice, type SliceRun } from './slice.ts';

const FIRST_CAPACITY = 64;

/**
 * A bounded first-in, first-out queue of slices, kept in columns: nothing is allocated per slice.
 *
 * The columns start small and double until they hold `limit` slices.
 */
export class SliceQueue {
  readonly limit: number;
  #capacity: number;
  #head = 0;
  #length = 0;
  #runs: (SliceRun | undefined)[];
  #stores: (ByteStore | undefined)[];
  /** Opcode, plus {@link CANCELED} when the slice must not be started any more. */
  #flags: Uint8Array;
  #offsets: Float64Array;
  #lengths: Float64Array;
  #lows: Uint32Array;
  #highs: Uint32Array;

  constructor(limit: number) {
    this.limit = limit;
    this.#capacity = Math.min(FIRST_CAPACITY, limit);
    this.#runs = new Array<SliceRun | undefined>(this.#capacity);
    this.#stores = new Array<ByteStore | undefined>(this.#capacity);
    this.#flags = new Uint8Array(this.#capacity);
    this.#offsets = new Float64Array(this.#capacity);
    this.#lengths = new Float64Array(this.#capacity);
    this.#lows = new Uint32Array(this.#capacity);
    this.#highs = new Uint32Array(this.#capacity);
  }

  get length(): number {
    return this.#length;
  }

  get full(): boolean {
    return this.#length >= this.limit;
  }

  /** Adds a slice; the queue must not be full. */
  push(run: SliceRun, slice: Slice): void {
    if (this.#length === this.#capacity) this.#grow();
    let index = this.#head + this.#length;
    if (index >= this.#capacity) index -= this.#capacity;
    this.#runs[index] = run;
    this.#stores[index] = slice.store;
    this.#flags[index] = slice.opcode;
    this.#offsets[index] = slice.offset;
    this.#lengths[index] = slice.length;
    this.#lows[index] = slice.addressLow;
    this.#highs[index] = slice.addressHigh;
    this.#length += 1;
  }

  /** Takes the oldest slice away; read it before through `run`, `store` and so on. */
  shift(): void {
    this.#runs[this.#head] = undefined;
    this.#stores[this.#head] = undefined;
    this.#head = this.#head + 1 === this.#capacity ? 0 : this.#head + 1;
    this.#length -= 1;
  }

  /** Forbids to start the slices of a run that are in the queue now. */
  cancel(run: SliceRun): void {
    for (let i = 0, index = this.#head; i < this.#length; i += 1) {
      if (this.#runs[index] === run) this.#flags[index] = (this.#flags[index] as number) | CANCELED;
      index = index + 1 === this.#capacity ? 0 : index + 1;
    }
  }

  /** The same for the slice that was added last. */
  cancelLast(): void {
    let index = this.#head + this.#length - 1;
    if (index >= this.#capacity) index -= this.#capacity;
    this.#flags[index] = (this.#flags[index] as number) | CANCELED;
  }

  /** Describes the oldest slice. */
  describe(into: Slice): void {
    const head = this.#head;
    into.opcode = this.isWrite ? Opcode.write : Opcode.read;
    into.store = this.#stores[head];
    into.offset = this.#offsets[head] as number;
    into.length = this.#lengths[head] as number;
    into.addressLow = this.#lows[head] as number;
    into.addressHigh = this.#highs[head] as number;
  }

  /** The oldest slice's run. The queue must not be empty; this holds for all that follow. */
  get run(): SliceRun {
    return this.#runs[this.#head] as SliceRun;
  }
  get store(): ByteStore {
    return this.#stores[this.#head] as ByteStore;
  }
  get isWrite(): boolean {
    return ((this.#flags[this.#head] as number) & Opcode.write) !== 0;
  }
  get canceled(): boolean {
    return ((this.#flags[this.#head] as number) & CANCELED) !== 0;
  }
  get offset(): number {
    return this.#offsets[this.#head] as number;
  }
  get sliceLength(): number {
    return this.#lengths[this.#head] as number;
  }
  /** NaN when the address needs more than 53 bits: no region of ours starts there. */
  get address(): number {
    return joinWords(this.#lows[this.#head] as number, this.#highs[this.#head] as number);
  }
  /** The same address, exact, for messages. */
  get exactAddress(): bigint {
    const high = BigInt(this.#highs[this.#head] as number);
    return (high << 32n) | BigInt(this.#lows[this.#head] as number);
  }

  #grow(): void {
    const capacity = Math.min(this.#capacity * 2, this.limit);
    // The oldest slice moves to the front, so that the columns stay plain copies.
    const order = <T>(column: readonly T[]): T[] => {
      const moved = column.slice(this.#head).concat(column.slice(0, this.#head));
      moved.length = capacity;
      return moved;
    };
    const spread = <T extends Uint8Array | Uint32Array | Float64Array>(column: T, into: T): T => {
      into.set(column.subarray(this.#head), 0);
      into.set(column.subarray(0, this.#head), this.#capacity - this.#head);
      return into;
    };
    this.#runs = order(this.#runs);
    this.#stores = order(this.#stores);
    this.#flags = spread(this.#flags, new Uint8Array(capacity));
    this.#offsets = spread(this.#offsets, new Float64Array(capacity));
    this.#lengths = spread(this.#lengths, new Float64Array(capacity));
    this.#lows = spread(this.#lows, new Uint32Array(capacity));
    this.#highs = spread(this.#highs, new Uint32Array(capacity));
    this.#head = 0;
    this.#capacity = capacity;
  }
}

const CANCELED = 2;
