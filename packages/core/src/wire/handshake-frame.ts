import { Buffer, isUtf8 } from 'node:buffer';
import { EngineError } from '../base/errors.ts';

/** Kinds of messages on the control port. */
export const FrameType = { connection: 0, metadata: 1, notify: 2, probe: 3 } as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

export interface ControlFrame {
  readonly type: FrameType;
  /**
   * True for a frame of the protocol before types existed: it is a connection handshake, and wants
   * its answer in the same format.
   */
  readonly legacy: boolean;
  /** The payload without the newline at its end; not yet known to be JSON. */
  readonly text: string;
}

const LENGTH_BYTES = 8;
const TYPE_MAX = 3;
/** From here on the first byte is neither a type nor the start of a JSON text. */
const FIRST_BYTE_LIMIT = 0x80;
const CAPACITY_MIN = 1024;
const LINE_FEED = 0x0a;

/**
 * One frame: length of what follows (u64, little-endian), type byte, JSON text, newline.
 *
 * @remarks Source: Mooncake 3b5a594, include/common.h (writeString).
 */
export function encodeFrame(type: FrameType, json: string): Buffer {
  return frame(json, type);
}

/** A frame without a type byte, the answer to a frame that had none. */
export function encodeLegacyFrame(json: string): Buffer {
  return frame(json, undefined);
}

function frame(json: string, type: FrameType | undefined): Buffer {
  const typeBytes = type === undefined ? 0 : 1;
  const length = typeBytes + Buffer.byteLength(json) + 1;
  const bytes = Buffer.allocUnsafe(LENGTH_BYTES + length);
  writeLength(bytes, length);
  if (type !== undefined) bytes[LENGTH_BYTES] = type;
  bytes.write(json, LENGTH_BYTES + typeBytes, 'utf8');
  bytes[bytes.length - 1] = LINE_FEED;
  return bytes;
}

function writeLength(bytes: Buffer, length: number): void {
  bytes.writeUInt32LE(length % 0x1_0000_0000, 0);
  bytes.writeUInt32LE(Math.floor(length / 0x1_0000_0000), 4);
}

/**
 * Cuts a stream of bytes into frames, however it arrives.
 *
 * Bytes are copied when they are pushed. Memory stays within a small multiple of what has arrived
 * and is not taken yet: a header that announces much costs nothing. Call `next` until it returns
 * undefined after each `push`; what may wait is then at most one frame and one chunk. A decoder
 * that has thrown stays broken, and throws the same error again.
 */
export class FrameDecoder {
  readonly #maxBytes: number;
  #bytes = Buffer.alloc(0);
  #start = 0;
  #end = 0;
  /** Length of the frame at `#start`, once its header is there. */
  #length: number | undefined;
  #failure: EngineError | undefined;

  /** @param maxBytes largest length that a frame may announce (`MC_HANDSHAKE_MAX_LENGTH`). */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes that arrived and belong to no frame yet taken. */
  get bufferedBytes(): number {
    return this.#end - this.#start;
  }

  push(chunk: Uint8Array): void {
    if (this.#failure !== undefined) return;
    this.#reserve(chunk.byteLength);
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.byteLength;
  }

  /**
   * The next whole frame, or undefined when more bytes are needed.
   *
   * @throws EngineError `ERR_TE_FRAME_TOO_LARGE` when the length is above the bound (as the first
   * bytes of HTTP and TLS are), `ERR_TE_PROTOCOL` when it is 0, when the first byte is no type and
   * cannot start a JSON text, or when the text is not UTF-8. There is no way to resume after it.
   * @remarks Source: Mooncake 3b5a594, include/common.h (readString).
   */
  next(): ControlFrame | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#length === undefined) {
      if (this.bufferedBytes < LENGTH_BYTES) return undefined;
      this.#length = this.#readLength();
    }
    const from = this.#start + LENGTH_BYTES;
    if (this.#end === from) return undefined;
    const first = this.#bytes[from] as number;
    if (first >= FIRST_BYTE_LIMIT) {
      throw this.#fail('ERR_TE_PROTOCOL', `a frame starts with byte ${first}; types are 0 to 3`);
    }
    if (this.bufferedBytes < LENGTH_BYTES + this.#length) return undefined;
    return this.#take(first, from, from + this.#length);
  }

  #readLength(): number {
    const low = this.#bytes.readUInt32LE(this.#start);
    const high = this.#bytes.readUInt32LE(this.#start + 4);
    const length = high * 0x1_0000_0000 + low;
    if (length === 0) throw this.#fail('ERR_TE_PROTOCOL', 'a frame announces no byte');
    if (length <= this.#maxBytes) return length;
    const bound = `at most ${this.#maxBytes} are accepted (MC_HANDSHAKE_MAX_LENGTH)`;
    throw this.#fail('ERR_TE_FRAME_TOO_LARGE', `a frame announces ${length} bytes; ${bound}`);
  }

  #take(first: number, from: number, to: number): ControlFrame {
    const legacy = first > TYPE_MAX;
    const payload = this.#bytes.subarray(legacy ? from : from + 1, to);
    if (!isUtf8(payload)) throw this.#fail('ERR_TE_PROTOCOL', 'the text of a frame is not UTF-8');
    const end = payload.at(-1) === LINE_FEED ? payload.length - 1 : payload.length;
    const text = payload.toString('utf8', 0, end);
    this.#length = undefined;
    this.#start = to;
    if (this.#start === this.#end) this.#release();
    return { type: legacy ? FrameType.connection : (first as FrameType), legacy, text };
  }

  /** Makes room for `count` bytes behind `#end`. */
  #reserve(count: number): void {
    if (this.#end + count <= this.#bytes.length) return;
    const waiting = this.bufferedBytes;
    // Moving down costs no more than what was taken since the last time: it stays linear.
    if (this.#start >= waiting && waiting + count <= this.#bytes.length) {
      this.#bytes.copyWithin(0, this.#start, this.#end);
    } else {
      const capacity = Math.max(CAPACITY_MIN, waiting + count, waiting * 2);
      const larger = Buffer.allocUnsafeSlow(capacity);
      this.#bytes.copy(larger, 0, this.#start, this.#end);
      this.#bytes = larger;
    }
    this.#start = 0;
    this.#end = waiting;
  }

  #release(): void {
    this.#start = 0;
    this.#end = 0;
    if (this.#bytes.length > CAPACITY_MIN) this.#bytes = Buffer.alloc(0);
  }

  #fail(code: 'ERR_TE_PROTOCOL' | 'ERR_TE_FRAME_TOO_LARGE', message: string): EngineError {
    this.#failure = new EngineError(code, `${message}; close the connection`, {
      details: { bufferedBytes: this.bufferedBytes, maxBytes: this.#maxBytes },
    });
    this.#release();
    return this.#failure;
  }
}
