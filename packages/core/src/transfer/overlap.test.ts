import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.ts';
import { findOverlap, findOverlapNow, type RangeColumns } from './overlap.ts';

const columns = (ranges: readonly (readonly [number, number])[]): RangeColumns => ({
  count: ranges.length,
  start: Float64Array.from(ranges, ([start]) => start),
  length: Float64Array.from(ranges, ([, length]) => length),
});

const share = (a: readonly [number, number], b: readonly [number, number]) =>
  a[1] > 0 && b[1] > 0 && a[0] < b[0] + b[1] && b[0] < a[0] + a[1];

describe('findOverlap', () => {
  it('lets touching and empty ranges pass', () => {
    expect(
      findOverlapNow(
        columns([
          [10, 5],
          [0, 10],
          [15, 1],
          [3, 0],
        ]),
      ),
    ).toBeUndefined();
    expect(findOverlapNow(columns([]))).toBeUndefined();
  });

  it('names the two rows', () => {
    expect(
      findOverlapNow(
        columns([
          [100, 10],
          [0, 10],
          [109, 1],
        ]),
      ),
    ).toEqual([0, 2]);
    expect(
      findOverlapNow(
        columns([
          [0, 100],
          [50, 1],
          [10, 1],
        ]),
      ),
    ).toEqual([0, 2]);
  });

  it('agrees with comparing every pair', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(300), fc.nat(12)), { maxLength: 40 }), (ranges) => {
        const expected = ranges.some((a, i) => ranges.some((b, j) => i < j && share(a, b)));
        const found = findOverlapNow(columns(ranges));
        expect(found !== undefined).toBe(expected);
        if (found !== undefined) {
          expect(found[0]).not.toBe(found[1]);
          expect(share(ranges[found[0]]!, ranges[found[1]]!)).toBe(true);
        }
      }),
      { numRuns: 3000 },
    );
  });

  it('finds one pair among a hundred thousand shuffled rows, in steps', () => {
    const random = seededRandom(5);
    const count = 100_000;
    const order = Array.from({ length: count }, (_, row) => row);
    for (let row = count - 1; row > 0; row -= 1) {
      const other = Math.floor(random.float() * (row + 1));
      [order[row], order[other]] = [order[other]!, order[row]!];
    }
    const clean = columns(order.map((place) => [place * 64, 64] as const));
    expect(findOverlapNow(clean)).toBeUndefined();
    const dirty = { ...clean, length: clean.length.slice() };
    dirty.length[777] = 65;
    const next = order.indexOf(order[777]! + 1);
    const search = findOverlap(dirty);
    let steps = 0;
    let result = search.next();
    for (; result.done !== true; result = search.next()) steps += 1;
    expect(result.value).toEqual([777, next]);
    expect(steps).toBeGreaterThan(5);
  });
});
