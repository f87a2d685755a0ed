import type { ByteStore } from '../memory/byte-store.ts';
import { invariant } from '../base/invariant.ts';

/** A slice as the ledger tells it from others. */
export interface LedgerSlice {
  readonly isWrite: boolean;
  readonly store: ByteStore;
  readonly offset: number;
  readonly length: number;
  readonly address: number;
}

/**
 * Knows which slices are on their way, over all networks of a world.
 *
 * A slice is never on its way twice: it is sent again only when nothing of the last attempt can
 * arrive any more. Callers who really want the same bytes moved twice at once break the rule too.
 */
export class SliceLedger {
  readonly #onViolation: (message: string) => void;
  readonly #open = new Map<ByteStore, Map<string, number>>();
  #size = 0;

  /** @param onViolation called with what was broken. Default: throws through `invariant`. */
  constructor(onViolation: (message: string) => void = (message) => invariant(false, message)) {
    this.#onViolation = onViolation;
  }

  /** Slices that are on their way, with those whose bytes may still land. */
  get size(): number {
    return this.#size;
  }

  begin(slice: LedgerSlice): void {
    let keys = this.#open.get(slice.store);
    if (keys === undefined) this.#open.set(slice.store, (keys = new Map<string, number>()));
    const key = keyOf(slice);
    const count = (keys.get(key) ?? 0) + 1;
    keys.set(key, count);
    this.#size += 1;
    if (count > 1) {
      this.#onViolation(`a slice is on its way twice: ${key} (kind:offset+length@address)`);
    }
  }

  end(slice: LedgerSlice): void {
    const keys = this.#open.get(slice.store);
    const key = keyOf(slice);
    const count = keys?.get(key) ?? 0;
    invariant(keys !== undefined && count > 0, `the slice ${key} is on its way when it ends`);
    this.#size -= 1;
    if (count > 1) keys.set(key, count - 1);
    else keys.delete(key);
    if (keys.size === 0) this.#open.delete(slice.store);
  }
}

function keyOf({ isWrite, offset, length, address }: LedgerSlice): string {
  return `${isWrite ? 'w' : 'r'}:${offset}+${length}@${address}`;
}
