import { invariant } from '../base/invariant.ts';
import type { ByteStore } from '../memory/byte-store.ts';

/**
 * Numbers that stand for the content of memory, one for each block of a store.
 *
 * A world of a thousand engines that move gibibytes can tell where everything went without moving
 * a byte. Stores begin with the tag 0 everywhere.
 */
export class ContentTags {
  readonly blockBytes: number;
  readonly #tags = new WeakMap<ByteStore, Float64Array>();

  constructor(blockBytes: number) {
    invariant(Number.isSafeInteger(blockBytes) && blockBytes > 0, 'a block has at least one byte');
    this.blockBytes = blockBytes;
  }

  /** The tags of a store, by block; what is written here is its content from now on. */
  of(store: ByteStore): Float64Array {
    let tags = this.#tags.get(store);
    if (tags === undefined) {
      tags = new Float64Array(Math.ceil(store.length / this.blockBytes));
      this.#tags.set(store, tags);
    }
    return tags;
  }

  copy(from: ByteStore, fromOffset: number, to: ByteStore, toOffset: number, length: number): void {
    const source = this.of(from);
    const target = this.of(to);
    const first = this.#block(fromOffset);
    const count = this.#block(length);
    const at = this.#block(toOffset);
    for (let index = 0; index < count; index += 1) {
      target[at + index] = source[first + index] as number;
    }
  }

  #block(bytes: number): number {
    const block = bytes / this.blockBytes;
    invariant(
      Number.isInteger(block),
      `with tags, ranges start and end at multiples of ${this.blockBytes} bytes; got ${bytes}`,
    );
    return block;
  }
}
