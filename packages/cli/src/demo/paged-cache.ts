import type { Engine, MemoryRegion } from '@transfer-engine/core';
import { readFileInto } from '../memory-loader.ts';
import { sha256 } from '../patterns.ts';
import type { BlockPlan, Role } from './block-plan.ts';

/** What pages hold that no block was ever put into. */
const SPARE = 0xa5;

/** One side's KV cache: a registered buffer for each layer, and the blocks in their pages. */
export class PagedCache {
  readonly plan: BlockPlan;
  readonly role: Role;
  readonly regions: readonly MemoryRegion[];

  private constructor(plan: BlockPlan, role: Role, regions: readonly MemoryRegion[]) {
    this.plan = plan;
    this.role = role;
    this.regions = regions;
  }

  static async register(engine: Engine, plan: BlockPlan, role: Role): Promise<PagedCache> {
    const regions: MemoryRegion[] = [];
    while (regions.length < plan.layers) {
      const publish = regions.length === plan.layers - 1;
      const region = await engine.allocateMemory(plan.layerBytes, { publish });
      region.bytes.fill(SPARE);
      regions.push(region);
    }
    return new PagedCache(plan, role, regions);
  }

  /** Puts the start of a file into the blocks. */
  async load(path: string): Promise<void> {
    await readFileInto(path, this.#blocks());
  }

  /** Forgets every block, and makes the pages differ from what they held. */
  wipe(): void {
    for (const block of this.#blocks()) block.fill(SPARE);
  }

  /** SHA-256 of the blocks in the order of the payload, wherever they lie. */
  async sha256(): Promise<string> {
    return await sha256(this.#blocks());
  }

  /** Whether nothing was written outside the blocks. */
  spareIntact(): boolean {
    const { plan } = this;
    const untouched = Buffer.alloc(plan.blockBytes, SPARE);
    for (const [layer, page] of plan.sparePages(this.role)) {
      const start = page * plan.blockBytes;
      const bytes = this.regions[layer]?.bytes;
      if (bytes?.compare(untouched, 0, plan.blockBytes, start, start + plan.blockBytes) !== 0)
        return false;
    }
    const last = plan.blocks - 1;
    const used = plan.length(last);
    const rest = this.#page(last).subarray(used);
    return rest.equals(untouched.subarray(used));
  }

  *#blocks(): Iterable<Buffer> {
    for (let block = 0; block < this.plan.blocks; block += 1) {
      yield this.#page(block).subarray(0, this.plan.length(block));
    }
  }

  #page(block: number): Buffer {
    const { plan } = this;
    const start = plan.offset(this.role, block);
    const bytes = this.regions[plan.layer(block)]?.bytes ?? Buffer.alloc(0);
    return bytes.subarray(start, start + plan.blockBytes);
  }
}
