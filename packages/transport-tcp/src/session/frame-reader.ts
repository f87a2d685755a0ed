import { invariant, type ByteStore } from '@transfer-engine/core/transport';
import type { Checksum } from './checksum.ts';
import { windowOf } from './memory-window.ts';

/** From here on, payload is read straight into its place instead of through the scratch. */
export const DIRECT_MIN_BYTES = 128 * 1024;
/** One read at most, so that a fast peer does not keep the event loop to itself. */
const DIRECT_MAX_BYTES = 1024 * 1024;
const SCRATCH_BYTES = 256 * 1024;
const NOTHING = new Uint8Array(0);

/**
 * Memory into which sockets are read when the bytes' place is not known yet. One is enough for all
 * sockets of a transport: a read is handled to its end before the next one starts.
 */
export function createScratch(bytes: number = SCRATCH_BYTES): Buffer {
  return Buffer.allocUnsafeSlow(bytes);
}

/** What stands above a {@link FrameReader} and knows what the bytes mean. */
export interface FrameOwner {
  /** A prefix is complete. Says what comes next by one of the reader's `expect` methods. */
  handlePrefix(bytes: Uint8Array, at: number): void;
  /** The payload is in its place. Says what comes next. */
  handlePayloadEnd(): void;
  /** The memory of the payload is gone (its ArrayBuffer was transferred). Stops the reader. */
  handleMemoryLost(): void;
}

type Mode = 'prefix' | 'payload' | 'discard' | 'stopped';

/**
 * Splits a stream into prefixes of fixed size and payloads that go to memory.
 *
 * The stream is pulled: {@link receiveTarget} says where the next bytes are wanted, which is the
 * destination itself for large payloads, and {@link received} says how many came. Nothing of the
 * scratch is referred to after `received` returned.
 */
export class FrameReader {
  readonly #prefixBytes: number;
  readonly #scratch: Buffer;
  readonly #owner: FrameOwner;
  readonly #checksum: Checksum | undefined;
  #mode: Mode = 'prefix';
  #paused = false;
  /** Bytes that came while the reader was paused. */
  #leftover: Buffer | undefined;
  /** The beginning of a prefix, `#have` bytes of it. */
  #partial: Buffer | undefined;
  #have = 0;
  #store: ByteStore | undefined;
  /** All of `#store`; kept over the frames of one read. */
  #window: Buffer | undefined;
  #offset = 0;
  #left = 0;
  #payloadLength = 0;
  /** Whether the last target was the payload's place. */
  #direct = false;
  /** Whether the payload's checksum is wanted, and what it is so far. */
  #checked = false;
  #crc = 0;
  /** A frame follows what is being thrown away. */
  #skipping = false;
  /** After a large payload another one is likely: read the prefix alone, and miss nothing of it. */
  #prefixAlone = false;

  /** @param checksum needed for payloads that are `checked` */
  constructor(prefixBytes: number, scratch: Buffer, owner: FrameOwner, checksum?: Checksum) {
    this.#prefixBytes = prefixBytes;
    this.#scratch = scratch;
    this.#owner = owner;
    this.#checksum = checksum;
  }

  /** True between two frames: the stream may end here. */
  get atBoundary(): boolean {
    return this.#mode === 'prefix' && this.#have === 0 && this.#leftover === undefined;
  }

  get inPrefix(): boolean {
    return this.#mode === 'prefix' && this.#have > 0;
  }

  get inPayload(): boolean {
    return this.#mode === 'payload';
  }

  /** Bytes of the payload that are in place. */
  get payloadDone(): number {
    return this.#mode === 'payload' ? this.#payloadLength - this.#left : 0;
  }

  /** Checksum of the payload that has ended last, when it was checked. */
  get payloadChecksum(): number {
    return this.#crc;
  }

  /** The beginning of a prefix that has not come to its end. */
  get partialPrefix(): Uint8Array {
    return this.#partial?.subarray(0, this.#have) ?? NOTHING;
  }

  /** Whether a payload is being thrown away, behind which a frame follows. */
  get skipping(): boolean {
    return this.#skipping;
  }

  get stopped(): boolean {
    return this.#mode === 'stopped';
  }

  get paused(): boolean {
    return this.#paused;
  }

  expectPrefix(): void {
    this.#mode = 'prefix';
  }

  /**
   * The next `length` bytes (at least 1) belong to `store` at `offset`.
   *
   * @param checked their checksum is wanted
   * @returns false when the memory is not there; nothing is expected then
   */
  expectPayload(store: ByteStore, offset: number, length: number, checked = false): boolean {
    if (store !== this.#store) {
      this.#store = store;
      this.#window = windowOf(store, 0, store.length);
    }
    // A buffer that was transferred in the meantime has become empty.
    if (this.#window === undefined || this.#window.length === 0) return false;
    this.#offset = offset;
    this.#left = length;
    this.#payloadLength = length;
    this.#checked = checked;
    this.#crc = 0;
    this.#mode = 'payload';
    return true;
  }

  /** Throws the next `length` bytes away, then stops. */
  discard(length: number): void {
    this.#left = length;
    this.#mode = length > 0 ? 'discard' : 'stopped';
    this.#release();
  }

  /** Throws the next `length` bytes (at least 1) away, then expects a prefix. */
  skip(length: number): void {
    this.#left = length;
    this.#mode = 'discard';
    this.#skipping = true;
    this.#release();
  }

  /** Ignores everything from now on. */
  stop(): void {
    this.#mode = 'stopped';
    this.#skipping = false;
    this.#leftover = undefined;
    this.#release();
  }

  /** Starts no further frame until {@link resume}. */
  pause(): void {
    this.#paused = true;
  }

  /** Goes on, first with what came in the meantime. */
  resume(): void {
    this.#paused = false;
    const leftover = this.#leftover;
    if (leftover === undefined) return;
    this.#leftover = undefined;
    this.#consume(leftover, leftover.length);
  }

  /** Where the next bytes of the stream should be put; never empty. */
  receiveTarget(): Buffer {
    this.#direct = false;
    if (this.#mode === 'payload' && this.#left >= DIRECT_MIN_BYTES && !this.#paused) {
      const length = Math.min(this.#left, DIRECT_MAX_BYTES);
      const window = windowOf(this.#store as ByteStore, this.#offset, length);
      if (window !== undefined) {
        this.#direct = true;
        return window;
      }
    }
    if (this.#mode === 'prefix' && this.#prefixAlone && this.#leftover === undefined) {
      return this.#scratch.subarray(0, this.#prefixBytes - this.#have);
    }
    return this.#scratch;
  }

  /** The first `count` bytes of the last target have been filled. */
  received(count: number): void {
    if (this.#direct) {
      // A reader that was stopped since has given the memory back, and knows of no payload.
      if (this.#mode !== 'payload') return;
      invariant(count <= this.#left, 'a read ends inside its payload');
      this.#advance(count);
      return;
    }
    if (this.#leftover !== undefined) {
      this.#leftover = Buffer.concat([this.#leftover, this.#scratch.subarray(0, count)]);
    } else {
      this.#consume(this.#scratch, count);
    }
  }

  #consume(bytes: Buffer, end: number): void {
    let at = 0;
    while (at < end && this.#mode !== 'stopped') {
      if (this.#paused) {
        const rest = bytes.subarray(at, end);
        this.#leftover = bytes === this.#scratch ? Buffer.from(rest) : rest;
        return;
      }
      if (this.#mode === 'prefix') at = this.#takePrefix(bytes, at, end);
      else if (this.#mode === 'payload') at = this.#takePayload(bytes, at, end);
      else at = this.#takeDiscarded(at, end);
    }
    if (this.#mode !== 'payload') this.#release();
  }

  #takePrefix(bytes: Buffer, at: number, end: number): number {
    const size = this.#prefixBytes;
    this.#prefixAlone = false;
    if (this.#have === 0 && end - at >= size) {
      this.#owner.handlePrefix(bytes, at);
      return at + size;
    }
    const count = Math.min(size - this.#have, end - at);
    this.#partial ??= Buffer.allocUnsafe(size);
    bytes.copy(this.#partial, this.#have, at, at + count);
    this.#have += count;
    if (this.#have === size) {
      this.#have = 0;
      this.#owner.handlePrefix(this.#partial, 0);
    }
    return at + count;
  }

  #takePayload(bytes: Buffer, at: number, end: number): number {
    const window = this.#window as Buffer;
    if (window.length === 0) {
      this.#owner.handleMemoryLost();
      return end;
    }
    const count = Math.min(this.#left, end - at);
    bytes.copy(window, this.#offset, at, at + count);
    this.#advance(count);
    return at + count;
  }

  #takeDiscarded(at: number, end: number): number {
    const count = Math.min(this.#left, end - at);
    this.#left -= count;
    if (this.#left === 0) {
      if (this.#skipping) this.#mode = 'prefix';
      else this.stop();
      this.#skipping = false;
    }
    return at + count;
  }

  #advance(count: number): void {
    if (this.#checked) this.#addToChecksum(count);
    this.#offset += count;
    this.#left -= count;
    if (this.#left > 0) return;
    this.#prefixAlone = this.#payloadLength >= DIRECT_MIN_BYTES;
    this.#owner.handlePayloadEnd();
    if (this.#direct) this.#release();
  }

  /** The bytes are taken from where they were put. */
  #addToChecksum(count: number): void {
    const window = this.#window as Buffer;
    const bytes = window.subarray(this.#offset, this.#offset + count);
    this.#crc = (this.#checksum as Checksum)(bytes, this.#crc);
  }

  /** Holds no memory of a store between frames. */
  #release(): void {
    if (this.#mode === 'payload') return;
    this.#store = undefined;
    this.#window = undefined;
  }
}
