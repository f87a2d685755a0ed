/** From here on a payload is read into its place; below, a copy out of a larger read is cheaper. */
const DIRECT_MIN = 128 * 1024;
/** One read takes at most so much: the kernel rarely has more, and the loop stays responsive. */
const READ_MAX = 1 << 20;
const SCRATCH = 256 * 1024;

export interface FrameHandler {
  /** A header is complete at `chunk[at…]`; returns where its payload goes, undefined for none. */
  header(chunk: Buffer, at: number): Buffer | undefined;
  /** Header and payload are complete. */
  frame(): void;
}

/**
 * Finds frames, a header of fixed size and then its payload, in a stream of bytes.
 *
 * Large payloads are read straight into their place: {@link buffer} says where the next bytes of
 * the socket shall go, {@link received} takes them over.
 */
export class FrameParser {
  readonly #handler: FrameHandler;
  readonly #header: Buffer;
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH);
  #have = 0;
  #payload: Buffer | undefined;
  #at = 0;
  #lastWasLarge = false;

  constructor(headerBytes: number, handler: FrameHandler) {
    this.#header = Buffer.allocUnsafeSlow(headerBytes);
    this.#handler = handler;
  }

  buffer(): Buffer {
    const payload = this.#payload;
    if (payload !== undefined && payload.length - this.#at >= DIRECT_MIN) {
      return payload.subarray(this.#at, Math.min(payload.length, this.#at + READ_MAX));
    }
    // After a large payload the next one is probably large too: take its header alone.
    if (payload === undefined && this.#lastWasLarge) {
      return this.#scratch.subarray(0, this.#header.length - this.#have);
    }
    return this.#scratch;
  }

  /** Takes over `count` bytes that were read into what {@link buffer} returned. */
  received(count: number): void {
    const payload = this.#payload;
    if (payload === undefined || payload.length - this.#at < DIRECT_MIN) {
      this.feed(this.#scratch, count);
      return;
    }
    this.#at += count;
    if (this.#at === payload.length) this.#endFrame();
  }

  feed(chunk: Buffer, end: number = chunk.length): void {
    let from = 0;
    while (from < end) {
      from +=
        this.#payload === undefined
          ? this.#takeHeader(chunk, from, end)
          : this.#takePayload(chunk, from, end);
    }
  }

  #takeHeader(chunk: Buffer, from: number, end: number): number {
    const size = this.#header.length;
    if (this.#have === 0 && end - from >= size) {
      this.#begin(chunk, from);
      return size;
    }
    const taken = Math.min(size - this.#have, end - from);
    chunk.copy(this.#header, this.#have, from, from + taken);
    this.#have += taken;
    if (this.#have === size) {
      this.#have = 0;
      this.#begin(this.#header, 0);
    }
    return taken;
  }

  #takePayload(chunk: Buffer, from: number, end: number): number {
    const payload = this.#payload;
    if (payload === undefined) return 0;
    const taken = Math.min(payload.length - this.#at, end - from);
    chunk.copy(payload, this.#at, from, from + taken);
    this.#at += taken;
    if (this.#at === payload.length) this.#endFrame();
    return taken;
  }

  #begin(chunk: Buffer, at: number): void {
    this.#payload = this.#handler.header(chunk, at);
    this.#at = 0;
    if (this.#payload === undefined) this.#handler.frame();
  }

  #endFrame(): void {
    this.#lastWasLarge = this.#at >= DIRECT_MIN;
    this.#payload = undefined;
    this.#handler.frame();
  }
}
