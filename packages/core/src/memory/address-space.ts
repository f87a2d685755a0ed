import type { Random } from '../base/random.ts';

const PAGE = 4096;
/** Room between two regions, so that an address one past a region's end is never somebody else's. */
const GUARD = PAGE;
/** The first base lies in [2^44, 2^46): looks like a heap address and is far below 2^53. */
const BASE_MIN = 2 ** 44;
const BASE_SPAN = 2 ** 46 - 2 ** 44;

/**
 * Hands out addresses for memory that has no address anybody could use directly.
 *
 * Addresses are page-aligned, start at a random base for each engine and are never handed out
 * twice, so that a peer with an old document meets a refusal and not a neighbour's bytes.
 */
export class AddressSpace {
  #next: number;

  constructor(random: Random) {
    this.#next = BASE_MIN + Math.floor((random.float() * BASE_SPAN) / PAGE) * PAGE;
  }

  /** Reserves `length` bytes (at least 1) and returns their first address. */
  reserve(length: number): number {
    const address = this.#next;
    this.#next = address + Math.ceil(length / PAGE) * PAGE + GUARD;
    return address;
  }
}
