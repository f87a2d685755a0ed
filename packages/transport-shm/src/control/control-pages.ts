import { closeSync, readSync, writeSync } from 'node:fs';
import type { NativeMemory } from '../ffi/native-memory.ts';
import { Mapping } from '../memory/mapping.ts';
import { CONTROL_BYTES } from './control-layout.ts';

/** The bytes of a control object: mapped where possible, else read and written by position. */
export interface ControlPages {
  word(at: number): number;
  setWord(at: number, value: number): void;
  read(at: number, length: number): Buffer;
  write(at: number, bytes: Uint8Array): void;
  close(): void;
}

/** @param fd belongs to the pages from now on */
export function openPages(
  native: NativeMemory | undefined,
  fd: number,
  writable: boolean,
): ControlPages {
  if (native === undefined) return new FilePages(fd);
  try {
    return new MappedPages(Mapping.create(native, fd, CONTROL_BYTES, { writable }));
  } finally {
    closeSync(fd);
  }
}

class MappedPages implements ControlPages {
  readonly #mapping: Mapping;
  #bytes: Buffer;
  #words: Int32Array;

  constructor(mapping: Mapping) {
    this.#mapping = mapping;
    this.#bytes = mapping.view(0, CONTROL_BYTES);
    this.#words = new Int32Array(this.#bytes.buffer, this.#bytes.byteOffset, CONTROL_BYTES / 4);
  }

  // Atomics keep the order between words, also on machines that would not.
  word(at: number): number {
    return Atomics.load(this.#words, at >> 2) >>> 0;
  }

  setWord(at: number, value: number): void {
    Atomics.store(this.#words, at >> 2, value | 0);
  }

  read(at: number, length: number): Buffer {
    return Buffer.from(this.#bytes.subarray(at, at + length));
  }

  write(at: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, at);
  }

  close(): void {
    this.#bytes = Buffer.alloc(0);
    // A word that is read after this is 0: closed.
    this.#words = new Int32Array(CONTROL_BYTES / 4);
    this.#mapping.unmapNow();
  }
}

class FilePages implements ControlPages {
  readonly #fd: number;
  readonly #word = Buffer.alloc(4);
  #closed = false;

  constructor(fd: number) {
    this.#fd = fd;
  }

  word(at: number): number {
    if (this.#closed || readSync(this.#fd, this.#word, 0, 4, at) !== 4) return 0;
    return this.#word.readUInt32LE(0);
  }

  setWord(at: number, value: number): void {
    if (this.#closed) return;
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
    closeSync(this.#fd);
  }
}
