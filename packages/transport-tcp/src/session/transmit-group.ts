/**
 * One group at most: a slice of 1 MiB with its header, or many small ones. Larger groups make the
 * end of a write news too late, smaller ones cost throughput.
 */
const GROUP_BYTES = 1024 * 1024 + 4096;
/** Payloads up to this size are copied behind their header: one chunk less to write. */
export const COPY_BYTES = 1024;
const SLAB_BYTES = 32 * 1024;
const SLABS_KEPT = 32;

interface Slab {
  readonly bytes: Buffer;
  readonly view: DataView;
}

/** Memory for headers and statuses while they are being written; used again and again. */
export class SlabPool {
  readonly #free: Slab[] = [];

  take(): Slab {
    const kept = this.#free.pop();
    if (kept !== undefined) return kept;
    const bytes = Buffer.allocUnsafeSlow(SLAB_BYTES);
    return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, SLAB_BYTES) };
  }

  give(slab: Slab): void {
    if (this.#free.length < SLABS_KEPT) this.#free.push(slab);
  }
}

/**
 * What goes to the socket in one gathered write: small pieces (headers, statuses) from a slab and
 * payload as windows on the memory where it lies. Only one group of a connection is under way at
 * a time, so a group can be filled again when it was written.
 */
export class TransmitGroup {
  /** In the order of the wire; complete after {@link seal}. */
  readonly chunks: Buffer[] = [];
  /** Bytes so far, small pieces included. */
  bytes = 0;
  readonly #slabs: SlabPool;
  readonly #limitBytes: number;
  #slab: Slab | undefined;
  #used = 0;
  /** Start of the small pieces that are not in `chunks` yet. */
  #pending = 0;

  /** @param limitBytes what one group may hold, give or take a small piece */
  constructor(slabs: SlabPool, limitBytes: number = GROUP_BYTES) {
    this.#slabs = slabs;
    this.#limitBytes = limitBytes;
  }

  /** Payload bytes that still fit. */
  get room(): number {
    return Math.max(this.#limitBytes - this.bytes, 0);
  }

  /** Place for a small piece of `length` bytes in {@link view}; -1 when the group is full. */
  reserve(length: number): number {
    if (this.bytes >= this.#limitBytes || this.#used + length > SLAB_BYTES) return -1;
    this.#slab ??= this.#slabs.take();
    const at = this.#used;
    this.#used += length;
    this.bytes += length;
    return at;
  }

  /** The slab's memory, to write what was reserved. */
  get view(): DataView {
    return (this.#slab as Slab).view;
  }

  /** Copies a small payload behind what was reserved last; false when there is no place for it. */
  copy(payload: Buffer): boolean {
    const at = this.reserve(payload.length);
    if (at < 0) return false;
    payload.copy((this.#slab as Slab).bytes, at);
    return true;
  }

  /** Adds payload; the memory must stay as it is until the group was written. */
  add(payload: Buffer): void {
    this.seal();
    this.chunks.push(payload);
    this.bytes += payload.length;
  }

  /** Moves small pieces that were reserved to `chunks`. */
  seal(): void {
    if (this.#used === this.#pending) return;
    this.chunks.push((this.#slab as Slab).bytes.subarray(this.#pending, this.#used));
    this.#pending = this.#used;
  }

  /** Forgets everything; call it when nothing refers to the chunks any more. */
  clear(): void {
    if (this.#slab !== undefined) this.#slabs.give(this.#slab);
    this.#slab = undefined;
    this.#used = 0;
    this.#pending = 0;
    this.bytes = 0;
    this.chunks.length = 0;
  }
}
