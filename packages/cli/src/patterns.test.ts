import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fillOpposite, fillPattern, findMismatch, patternByte, sha256 } from './patterns.ts';

/** The definition, written in the slow way. */
const expected = (length: number, seed: number, origin: number) =>
  Buffer.from(
    Array.from({ length }, (_, i) => Number((BigInt(origin + i) * 131n + BigInt(seed)) & 0xffn)),
  );

describe('the pattern', () => {
  it('is ((origin + i) * 131 + seed) & 255', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(3_000),
        fc.integer({ min: 0, max: 0xffff_ffff }),
        fc.integer({ min: 0, max: 2 ** 45 }),
        async (length, seed, origin) => {
          const memory = Buffer.alloc(length);
          await fillPattern(memory, seed, origin);
          expect(memory.equals(expected(length, seed, origin))).toBe(true);
          if (length > 0) expect(patternByte(origin, seed)).toBe(memory[0]);
        },
      ),
    );
  });

  it('is the same across the pieces in which it is filled', async () => {
    const memory = Buffer.alloc((1 << 20) * 2 + 777);
    await fillPattern(memory, 9, 5);
    const end = memory.length;
    expect(memory.subarray(end - 777).equals(expected(777, 9, 5 + end - 777))).toBe(true);
    expect(await findMismatch(memory, 9, 5)).toBe(-1);
  });

  it('finds the first wrong byte wherever it is', async () => {
    const memory = Buffer.alloc(200_000);
    await fillPattern(memory, 7, 3);
    await fc.assert(
      fc.asyncProperty(fc.nat(memory.length - 1), async (at) => {
        memory[at] = (memory[at] ?? 0) ^ 1;
        const found = await findMismatch(memory, 7, 3);
        memory[at] = (memory[at] ?? 0) ^ 1;
        expect(found).toBe(at);
      }),
    );
    expect(await findMismatch(Buffer.alloc(0), 7)).toBe(-1);
  });

  it('has an opposite that differs everywhere', async () => {
    const memory = Buffer.alloc(1000);
    await fillOpposite(memory, 42, 17);
    const right = expected(1000, 42, 17);
    expect(memory.every((byte, i) => byte !== right[i])).toBe(true);
  });
});

it('hashes parts as one', async () => {
  const bytes = Buffer.alloc((1 << 20) + 5, 3);
  const whole = createHash('sha256').update(bytes).digest('hex');
  expect(await sha256([bytes])).toBe(whole);
  expect(await sha256([bytes.subarray(0, 9), bytes.subarray(9)])).toBe(whole);
});
