import { EngineError, type Engine, type MemoryRegion } from '@transfer-engine/core';
import { fillPattern, sha256 } from './patterns.ts';

/** The buffers of a target. An index is never given twice, so it stays right after removals. */
export class TargetBuffers {
  readonly #engine: Engine;
  readonly #regions: (MemoryRegion | undefined)[] = [];

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /**
   * Makes and registers one buffer, in the memory that the first transport likes best, and fills it.
   *
   * @returns its index
   */
  async add(
    size: number,
    fill: (memory: Buffer) => Promise<void>,
    publish = true,
  ): Promise<number> {
    const region = await this.#engine.allocateMemory(size, { publish });
    const index = this.#regions.push(region) - 1;
    await fill(region.bytes);
    return index;
  }

  async remove(index: number): Promise<void> {
    await this.at(index).unregister();
    this.#regions[index] = undefined;
  }

  /** @throws EngineError when there is no such buffer, or no longer */
  at(index: number): MemoryRegion {
    const region = this.#regions[index];
    if (region !== undefined) return region;
    const live = [...this.#live()].map(([one]) => one);
    throw new EngineError(
      'ERR_TE_INVALID_ARGUMENT',
      `buffer ${index} does not exist; existing: ${live.length === 0 ? 'none' : live.join(', ')}`,
    );
  }

  describe(): { index: number; addr: string; length: number }[] {
    return [...this.#live()].map(([index, region]) => ({
      index,
      addr: region.address.toString(),
      length: region.length,
    }));
  }

  async fill(memory: Buffer, seed: number): Promise<void> {
    await fillPattern(memory, seed);
  }

  async fillAll(seed: number): Promise<void> {
    for (const [, region] of this.#live()) await fillPattern(region.bytes, seed);
  }

  /** SHA-256 of every buffer that lives, in the order of the indices. */
  async sums(): Promise<string[]> {
    const sums: string[] = [];
    for (const [, region] of this.#live()) sums.push(await sha256([region.bytes]));
    return sums;
  }

  *#live(): Iterable<[index: number, region: MemoryRegion]> {
    for (const [index, region] of this.#regions.entries()) {
      if (region !== undefined) yield [index, region];
    }
  }
}
