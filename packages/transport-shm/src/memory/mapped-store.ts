import { BufferStore, type ByteStore } from '@transfer-engine/core/transport';
import type { Mapping } from './mapping.ts';

/** A mapping, or a part of one, as memory like any other: the user has a Buffer over it. */
export class MappedStore extends BufferStore {
  readonly mapping: Mapping;

  constructor(mapping: Mapping, bytes: Buffer) {
    super(bytes);
    this.mapping = mapping;
  }
}

/** A mapping that is longer than a Buffer can be: users have it as several. */
export class LongMappedStore implements ByteStore {
  readonly mapping: Mapping;
  readonly length: number;
  readonly #start: number;

  constructor(mapping: Mapping, start: number, length: number) {
    this.mapping = mapping;
    this.#start = start;
    this.length = length;
  }

  view(offset: number, length: number): Uint8Array {
    return this.mapping.view(this.#start + offset, length);
  }

  readInto(target: Uint8Array, offset: number): void {
    target.set(this.view(offset, target.byteLength));
  }

  writeFrom(source: Uint8Array, offset: number): void {
    this.view(offset, source.byteLength).set(source);
  }
}

/** The store over a range of a mapping that fits its length. */
export function storeOver(
  mapping: Mapping,
  start: number,
  length: number,
): MappedStore | LongMappedStore {
  if (length > mapping.viewBytesMax) return new LongMappedStore(mapping, start, length);
  return new MappedStore(mapping, mapping.view(start, length));
}
