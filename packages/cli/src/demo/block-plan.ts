import { seededRandom } from '@transfer-engine/core/transport';

export const ROLES = ['prefill', 'decode'] as const;
export type Role = (typeof ROLES)[number];

export interface PlanSettings {
  /** Payload in bytes, at least 1. */
  readonly bytes: number;
  readonly blockBytes: number;
  /** Layers wanted; a payload of few blocks has fewer. */
  readonly layers: number;
  readonly seed: number;
}

/**
 * Where the blocks of a paged KV cache lie.
 *
 * The payload is cut into blocks; the blocks are spread over layers; each layer is one buffer of
 * pages, more than it needs. Both sides keep a block table of their own, in no particular order,
 * so no two neighbouring blocks need to be neighbours anywhere, as after many requests have come
 * and gone. The same settings give the same plan in every process.
 */
export class BlockPlan {
  readonly blocks: number;
  readonly blockBytes: number;
  readonly bytes: number;
  readonly layers: number;
  readonly pagesPerLayer: number;
  readonly #blocksPerLayer: number;
  readonly #tables: Readonly<Record<Role, Uint32Array>>;

  constructor(settings: PlanSettings) {
    const { bytes, blockBytes, layers, seed } = settings;
    this.bytes = bytes;
    this.blockBytes = blockBytes;
    this.blocks = Math.ceil(bytes / blockBytes);
    this.#blocksPerLayer = Math.ceil(this.blocks / layers);
    this.layers = Math.ceil(this.blocks / this.#blocksPerLayer);
    this.pagesPerLayer = this.#blocksPerLayer + Math.ceil(this.#blocksPerLayer / 8);
    this.#tables = { prefill: this.#table(seed * 2), decode: this.#table(seed * 2 + 1) };
  }

  get layerBytes(): number {
    return this.pagesPerLayer * this.blockBytes;
  }

  /** Payload of a block in bytes; only the last one may be shorter than its page. */
  length(block: number): number {
    return Math.min(this.blockBytes, this.bytes - block * this.blockBytes);
  }

  layer(block: number): number {
    return Math.floor(block / this.#blocksPerLayer);
  }

  /** Byte at which the block's page starts in the buffer of its layer. */
  offset(role: Role, block: number): number {
    return (this.#tables[role][block] ?? 0) * this.blockBytes;
  }

  /** Pages of a role that hold no block, as (layer, page). */
  *sparePages(role: Role): Iterable<[layer: number, page: number]> {
    const used = new Set<number>();
    for (let block = 0; block < this.blocks; block += 1) {
      used.add(this.layer(block) * this.pagesPerLayer + (this.#tables[role][block] ?? 0));
    }
    for (let layer = 0; layer < this.layers; layer += 1) {
      for (let page = 0; page < this.pagesPerLayer; page += 1) {
        if (!used.has(layer * this.pagesPerLayer + page)) yield [layer, page];
      }
    }
  }

  /** A shuffled page for every block: the first pages of a Fisher-Yates shuffle of each layer. */
  #table(seed: number): Uint32Array {
    const random = seededRandom(seed);
    const table = new Uint32Array(this.blocks);
    const pages = Uint32Array.from({ length: this.pagesPerLayer }, (_, page) => page);
    for (let block = 0; block < this.blocks; block += 1) {
      const at = block % this.#blocksPerLayer;
      const other = at + Math.floor(random.float() * (this.pagesPerLayer - at));
      const picked = pages[other] ?? 0;
      pages[other] = pages[at] ?? 0;
      pages[at] = picked;
      table[block] = picked;
    }
    return table;
  }
}
