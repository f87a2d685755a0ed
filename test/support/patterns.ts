/** Bytes that tell where they come from: byte i of a pattern is (i * 131 + seed) & 0xff. */

/** Seed that the recorded targets filled their buffers with. */
export const TARGET_SEED = 7;
/** Seed that the recorded initiators wrote with; i counts from the start of the buffer. */
export const WRITE_SEED = 42;

export function patternByte(at: number, seed: number): number {
  return (at * 131 + seed) & 0xff;
}

/** Fills `bytes` with what the pattern has from `at` on. */
export function fillPattern(bytes: Uint8Array, seed: number, at = 0): void {
  for (let index = 0; index < bytes.length; index += 1) {
    bytes[index] = patternByte(at + index, seed);
  }
}

export function patternBytes(length: number, seed: number, at = 0): Buffer {
  const bytes = Buffer.alloc(length);
  fillPattern(bytes, seed, at);
  return bytes;
}

/** Index of the first byte that the pattern does not have there; -1 when all are right. */
export function mismatch(bytes: Uint8Array, seed: number, at = 0): number {
  for (let index = 0; index < bytes.length; index += 1) {
    if (bytes[index] !== patternByte(at + index, seed)) return index;
  }
  return -1;
}
