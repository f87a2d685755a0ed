import fc from 'fast-check';
import { expect, it } from 'vitest';
import { BlockPlan, ROLES } from './block-plan.ts';

const settings = fc.record({
  bytes: fc.integer({ min: 1, max: 100_000 }),
  blockBytes: fc.integer({ min: 1, max: 5_000 }),
  layers: fc.integer({ min: 1, max: 40 }),
  seed: fc.integer({ min: 0, max: 1_000 }),
});

it('gives every block a page of its own, on both sides, and covers the payload', () => {
  fc.assert(
    fc.property(settings, (given) => {
      fc.pre(given.bytes / given.blockBytes < 3_000);
      const plan = new BlockPlan(given);
      let bytes = 0;
      for (let block = 0; block < plan.blocks; block += 1) bytes += plan.length(block);
      expect(bytes).toBe(given.bytes);
      expect(plan.layers).toBeLessThanOrEqual(given.layers);
      for (const role of ROLES) {
        const places = new Set<string>();
        for (let block = 0; block < plan.blocks; block += 1) {
          const offset = plan.offset(role, block);
          expect(plan.layer(block)).toBeLessThan(plan.layers);
          expect(offset % plan.blockBytes).toBe(0);
          expect(offset + plan.blockBytes).toBeLessThanOrEqual(plan.layerBytes);
          places.add(`${plan.layer(block)}:${offset}`);
        }
        expect(places.size).toBe(plan.blocks);
        const spare = [...plan.sparePages(role)];
        expect(spare.length).toBe(plan.layers * plan.pagesPerLayer - plan.blocks);
        for (const [layer, page] of spare) {
          expect(places.has(`${layer}:${page * plan.blockBytes}`)).toBe(false);
        }
      }
    }),
  );
});

it('is the same in every process, and not the same on both sides', () => {
  const given = { bytes: 1 << 20, blockBytes: 4096, layers: 4, seed: 5 };
  const [one, two] = [new BlockPlan(given), new BlockPlan(given)];
  const offsets = (plan: BlockPlan, role: 'prefill' | 'decode') =>
    Array.from({ length: plan.blocks }, (_, block) => plan.offset(role, block));
  expect(offsets(one, 'prefill')).toEqual(offsets(two, 'prefill'));
  expect(offsets(one, 'prefill')).not.toEqual(offsets(one, 'decode'));
});

it('scatters: neighbours of the payload are rarely neighbours in memory', () => {
  const plan = new BlockPlan({ bytes: 400 * 256, blockBytes: 256, layers: 4, seed: 1 });
  let neighbours = 0;
  for (let block = 1; block < plan.blocks; block += 1) {
    if (plan.offset('prefill', block) - plan.offset('prefill', block - 1) === 256) neighbours += 1;
  }
  expect(neighbours).toBeLessThan(plan.blocks / 10);
});
