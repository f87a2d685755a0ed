import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sliceCount, sliceLength } from './slicing.ts';

describe('slicing', () => {
  it('lets a short tail ride with the last full slice', () => {
    expect(sliceLength(65_536 + 16_384, 65_536)).toBe(65_536 + 16_384);
    expect(sliceLength(65_536 + 16_385, 65_536)).toBe(65_536);
    expect(sliceLength(1, 65_536)).toBe(1);
  });

  it('does not cut at all when the slice size is infinite', () => {
    expect(sliceLength(2 ** 40, Number.POSITIVE_INFINITY)).toBe(2 ** 40);
    expect(sliceCount(2 ** 40, Number.POSITIVE_INFINITY)).toBe(1);
  });

  it('covers every length exactly once, in as many slices as were counted', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20_000 }),
        fc.integer({ min: 4, max: 4096 }),
        (length, size) => {
          let left = length;
          let slices = 0;
          while (left > 0) {
            const next = sliceLength(left, size);
            expect(next).toBeGreaterThan(0);
            expect(next).toBeLessThanOrEqual(Math.max(size * 1.25, 1));
            left -= next;
            slices += 1;
          }
          expect(left).toBe(0);
          expect(slices).toBe(sliceCount(length, size));
        },
      ),
      { numRuns: 500 },
    );
  });
});
