import type { ByteStore } from './byte-store.ts';

/** What a user may hand in as memory. */
export type MemoryLike = ArrayBufferView | ArrayBufferLike;

/** A store over memory of this process. */
export class BufferStore implements ByteStore {
  readonly length: number;
  /** The whole store; views of it share its memory. */
  readonly bytes: Buffer;

  constructor(memory: MemoryLike) {
    this.bytes = toBuffer(memory);
    this.length = this.bytes.byteLength;
  }

  view(offset: number, length: number): Uint8Array {
    return this.bytes.subarray(offset, offset + length);
  }

  readInto(target: Uint8Array, offset: number): void {
    this.bytes.copy(target, 0, offset, offset + target.byteLength);
  }

  writeFrom(source: Uint8Array, offset: number): void {
    this.bytes.set(source, offset);
  }
}

/** A Buffer over the same memory; nothing is copied. */
export function toBuffer(memory: MemoryLike): Buffer {
  if (Buffer.isBuffer(memory)) return memory;
  if (ArrayBuffer.isView(memory)) {
    return Buffer.from(memory.buffer as ArrayBuffer, memory.byteOffset, memory.byteLength);
  }
  return Buffer.from(memory as ArrayBuffer);
}

export function isMemoryLike(value: unknown): value is MemoryLike {
  return (
    ArrayBuffer.isView(value) ||
    value instanceof ArrayBuffer ||
    (typeof SharedArrayBuffer !== 'undefined' && value instanceof SharedArrayBuffer)
  );
}
