import { constants } from 'node:buffer';
import type { NativeMemory } from '../ffi/native-memory.ts';

/** What has to be unmapped when nobody can see it any more. */
interface Held {
  readonly native: NativeMemory;
  readonly address: number;
  readonly length: number;
  /** Views that have not been collected. */
  views: number;
}

const collected = new FinalizationRegistry<Held>((held) => {
  held.views -= 1;
  if (held.views === 0) held.native.unmap(held.address, held.length);
});

/** Mappings up to this size get their pages at once, which takes below a millisecond. */
const POPULATE_SYNC_BYTES = 4 * 1024 * 1024;
/** How far views of a long mapping reach into each other: no slice is longer. */
const OVERLAP = 64 * 1024 * 1024;

/**
 * A mapped object, as views that may outlive it.
 *
 * A view that is touched after munmap(2) would end the process. So memory that users have seen is
 * replaced by empty private pages when it is given back, and unmapped when the last view of it was
 * collected. A mapping that nobody gave back is unmapped in the same way.
 */
export class Mapping {
  readonly address: number;
  readonly length: number;
  /** Longest view, in bytes; a longer mapping is seen through several. */
  readonly viewBytesMax: number;
  readonly #held: Held;
  readonly #token = {};
  /** One view of everything, or views that overlap, the i-th of which starts at i * stride. */
  readonly #views: Buffer[] = [];
  readonly #stride: number;
  #released = false;

  private constructor(
    native: NativeMemory,
    address: number,
    length: number,
    viewBytesMax: number,
    overlap: number,
  ) {
    this.address = address;
    this.length = length;
    this.viewBytesMax = viewBytesMax;
    this.#stride = length <= viewBytesMax ? length : viewBytesMax - overlap;
    this.#held = { native, address, length, views: 0 };
    for (let start = 0; start < length; start += this.#stride) {
      this.#views.push(this.#makeView(start, Math.min(viewBytesMax, length - start)));
      if (start + viewBytesMax >= length) break;
    }
  }

  /**
   * Maps the first `length` bytes of an open object. The file has to have them.
   *
   * @param viewBytesMax for tests; the runtime's limit otherwise
   * @throws NativeCallError
   */
  static create(
    native: NativeMemory,
    fd: number,
    length: number,
    options: { readonly writable: boolean; readonly viewBytesMax?: number },
  ): Mapping {
    const { writable, viewBytesMax = constants.MAX_LENGTH } = options;
    const populate = length <= POPULATE_SYNC_BYTES;
    const address = native.map(fd, length, { writable, populate });
    const overlap = Math.min(OVERLAP, Math.floor(viewBytesMax / 2));
    const mapping = new Mapping(native, address, length, viewBytesMax, overlap);
    // Pages that are missing cost a fault each, in the middle of a copy.
    if (!populate) void native.populate(address, length, writable);
    return mapping;
  }

  /** All bytes in one view; undefined when the mapping is longer than a view can be. */
  get whole(): Buffer | undefined {
    return this.length <= this.viewBytesMax ? this.#views[0] : undefined;
  }

  /**
   * The bytes of a range that is at most `viewBytesMax` long.
   *
   * @throws RangeError for a longer one
   */
  view(offset: number, length: number): Buffer {
    const index = Math.min(Math.floor(offset / this.#stride), this.#views.length - 1);
    const start = index * this.#stride;
    const view = this.#views[index];
    if (view !== undefined && offset - start + length <= view.byteLength) {
      return view.subarray(offset - start, offset - start + length);
    }
    if (length > this.viewBytesMax) {
      throw new RangeError(
        `a view of ${length} bytes is longer than this runtime allows (${this.viewBytesMax})`,
      );
    }
    return this.#makeView(offset, length);
  }

  /** Whether an ArrayBuffer is one of the lasting views, and where in the mapping it starts. */
  offsetOf(memory: ArrayBufferLike): number | undefined {
    const index = this.#views.findIndex((view) => view.buffer === memory);
    return index === -1 ? undefined : index * this.#stride;
  }

  /** The ArrayBuffers of the lasting views. */
  get memories(): ArrayBufferLike[] {
    return this.#views.map((view) => view.buffer);
  }

  /** Takes the bytes away from everybody who still has a view: they read zeros from now on. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#held.native.overlay(this.address, this.length);
    this.#views.length = 0;
  }

  /** Unmaps at once. Only for mappings of which nobody outside has seen a view. */
  unmapNow(): void {
    if (this.#released) return;
    this.#released = true;
    collected.unregister(this.#token);
    this.#views.length = 0;
    this.#held.native.unmap(this.address, this.length);
  }

  #makeView(offset: number, length: number): Buffer {
    const memory = this.#held.native.view(this.address + offset, length);
    this.#held.views += 1;
    collected.register(memory, this.#held, this.#token);
    return Buffer.from(memory);
  }
}
