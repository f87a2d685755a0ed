/** An address in a segment: an unsigned 64-bit integer. Only the border of the product uses bigints. */
export type Address = bigint;

export const U64_MAX = 0xffff_ffff_ffff_ffffn;
const TWO_32 = 0x1_0000_0000;
/** High words from here on make a value that a number cannot hold exactly. */
const HIGH_WORD_LIMIT = 0x20_0000;

/** Joins two 32-bit words; NaN when the value needs more than 53 bits. */
export function joinWords(low: number, high: number): number {
  return high < HIGH_WORD_LIMIT ? high * TWO_32 + low : Number.NaN;
}

export const lowWord = (value: number): number => value % TWO_32;
export const highWord = (value: number): number => Math.floor(value / TWO_32);

export function isU64(value: unknown): value is bigint {
  return typeof value === 'bigint' && value >= 0n && value <= U64_MAX;
}
