import fc from 'fast-check';
import { expect, it } from 'vitest';
import { LatencyHistogram } from './histogram.ts';

it('says 0 without samples', () => {
  expect(new LatencyHistogram().percentileUs(50)).toBe(0);
});

it('is exact when all samples are equal', () => {
  const histogram = new LatencyHistogram();
  for (let i = 0; i < 10; i += 1) histogram.recordMs(1.234567);
  expect(histogram.percentileUs(50)).toBe(1234.567);
  expect(histogram.percentileUs(99.9)).toBe(1234.567);
});

it('gives every percentile within a bucket of the sorted samples', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 2 ** 41 }), { minLength: 1, maxLength: 400 }),
      fc.constantFrom(1, 50, 90, 99, 99.9, 100),
      (samples, percent) => {
        const histogram = new LatencyHistogram();
        for (const ns of samples) histogram.recordMs(ns / 1e6);
        const sorted = [...samples].sort((a, b) => a - b);
        const exact = sorted[Math.ceil((percent / 100) * sorted.length) - 1] ?? 0;
        const ns = histogram.percentileUs(percent) * 1e3;
        // One nanosecond for the way through milliseconds, 1/64 for the width of a bucket.
        expect(Math.abs(ns - exact)).toBeLessThanOrEqual(1 + exact / 64);
        expect(histogram.count).toBe(samples.length);
      },
    ),
  );
});

it('merges as if all samples had gone into one', () => {
  const [left, right, both] = [1, 2, 3].map(() => new LatencyHistogram());
  for (let i = 1; i <= 1000; i += 1) {
    (i % 3 === 0 ? left : right)?.recordMs(i / 7);
    both?.recordMs(i / 7);
  }
  left?.merge(right ?? new LatencyHistogram());
  for (const percent of [0.1, 10, 50, 99, 100]) {
    expect(left?.percentileUs(percent)).toBe(both?.percentileUs(percent));
  }
  expect(left?.count).toBe(1000);
});

it('counts what is beyond an hour as the longest it knows', () => {
  const histogram = new LatencyHistogram();
  histogram.recordMs(1e12);
  expect(histogram.percentileUs(50)).toBeGreaterThan(4e9);
});
