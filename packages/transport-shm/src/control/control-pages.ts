import { closeSync, readSync, writeSync } from 'node:fs';
import type { NativeMemory } from '../ffi/native-memory.ts';
import { Mapping } from '../memory/mapping.ts';
import { HEADER_BYTES } from './control-layout.ts';

/**
 * The bytes of a control object. The words of the header, which are looked at for every copy, are
 * mapped where that is possible; everything else is read and written by position.
 */
export class ControlPages {
  readonly #fd: number;
  readonly #mapping: Mapping | undefined;
  #words: Int32Array | undefined;
  readonly #word = Buffer.alloc(4);
  #closed = false;

  /** @param fd belongs to the pages from now on */
  constructor(native: NativeMemory | undefined, fd: number, writable: boolean) {
    this.#fd = fd;
    if (native === undefined) return;
    this.#mapping = Mapping.create(native, fd, HEADER_BYTES, { writable });
    const { buffer, byteOffset } = this.#mapping.view(0, HEADER_BYTES);
    this.#words = new Int32Array(buffer, byteOffset, HEADER_BYTES / 4);
  }

  /** A word of the header; 0 after `close`. */
  word(at: number): number {
    // Atomics keep the order between words, also on machines that would not.
    if (this.#words !== undefined) return Atomics.load(this.#words, at >> 2) >>> 0;
    if (this.#closed || readSync(this.#fd, this.#word, 0, 4, at) !== 4) return 0;
    return this.#word.readUInt32LE(0);
  }

  setWord(at: number, value: number): void {
    if (this.#closed) return;
    if (this.#words !== undefined) {
      Atomics.store(this.#words, at >> 2, value | 0);
      return;
    }
    this.#word.writeUInt32LE(value >>> 0, 0);
    writeSync(this.#fd, this.#word, 0, 4, at);
  }

  read(at: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    if (!this.#closed) readSync(this.#fd, bytes, 0, length, at);
    return bytes;
  }

  write(at: number, bytes: Uint8Array): void {
    if (!this.#closed) writeSync(this.#fd, bytes, 0, bytes.byteLength, at);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#words = undefined;
    this.#mapping?.unmapNow();
    closeSync(this.#fd);
  }
}
