import fc from 'fast-check';
import { expect, it } from 'vitest';
import { formatBytes, formatMicroseconds, parseBytes, rounded } from './units.ts';

it.each([
  ['0', 0],
  ['4096', 4096],
  ['64K', 65_536],
  ['64k', 65_536],
  ['64KiB', 65_536],
  ['64kB', 64_000],
  ['1.5MiB', 1_572_864],
  ['2 M', 2_097_152],
  ['1G', 2 ** 30],
  ['1TB', 1e12],
])('reads %s', (text, bytes) => {
  expect(parseBytes(text)).toBe(bytes);
});

it.each(['', 'K', '-1', '1.5', '0x10', '1e6', '1Q', '1 K B', '9007199254740992', '9999999T'])(
  'refuses %j',
  (text) => {
    expect(parseBytes(text)).toBeUndefined();
  },
);

it('reads every safe integer back', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (bytes) => {
      expect(parseBytes(String(bytes))).toBe(bytes);
    }),
  );
});

it('writes for people', () => {
  expect(formatBytes(512)).toBe('512 B');
  expect(formatBytes(1536)).toBe('1.50 KiB');
  expect(formatBytes(2 ** 30)).toBe('1 GiB');
  expect(formatMicroseconds(3.25)).toBe('3.3 us');
  expect(formatMicroseconds(812)).toBe('812 us');
  expect(formatMicroseconds(3_421)).toBe('3.42 ms');
  expect(formatMicroseconds(1_200_000)).toBe('1.20 s');
  expect(rounded(1.234567)).toBe(1.235);
});
