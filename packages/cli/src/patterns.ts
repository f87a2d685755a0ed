import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';

const PERIOD = 256;
/** Bytes that are filled, compared or hashed before other work gets a turn: about a millisecond. */
const PIECE = 1 << 20;
const BLOCK = 64 * 1024;

/**
 * The test pattern: byte i is ((origin + i) * 131 + seed) & 0xff. It repeats every 256 bytes and
 * has every value once in between, so that shifted, swapped and lost bytes all show.
 */
export function patternByte(position: number, seed: number): number {
  return ((position % PERIOD) * 131 + (seed % PERIOD)) & 0xff;
}

function patternBlock(origin: number, seed: number, length: number): Buffer {
  const block = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i += 1) block[i] = patternByte((origin % PERIOD) + i, seed);
  return block;
}

/** Fills `target` so that its first byte is the pattern's byte `origin`. */
export async function fillPattern(target: Buffer, seed: number, origin = 0): Promise<void> {
  const period = patternBlock(origin, seed, PERIOD);
  // Pieces are multiples of the period, so each starts with the same byte.
  for (let at = 0; at < target.length; at += PIECE) {
    if (at > 0) await nextTurn();
    target.fill(period, at, Math.min(at + PIECE, target.length));
  }
}

/** Fills `target` with something that differs from the pattern in every byte. */
export async function fillOpposite(target: Buffer, seed: number, origin = 0): Promise<void> {
  await fillPattern(target, seed + 1, origin);
}

/** Index of the first byte that differs from the pattern, or -1. */
export async function findMismatch(actual: Buffer, seed: number, origin = 0): Promise<number> {
  const expected = patternBlock(origin, seed, Math.min(BLOCK, actual.length));
  for (let at = 0; at < actual.length; at += BLOCK) {
    if (at > 0 && at % PIECE === 0) await nextTurn();
    const length = Math.min(BLOCK, actual.length - at);
    if (expected.compare(actual, at, at + length, 0, length) === 0) continue;
    for (let i = 0; i < length; i += 1) if (actual[at + i] !== expected[i]) return at + i;
  }
  return -1;
}

/** SHA-256 of the parts in order, as hexadecimal digits; gives other work its turns. */
export async function sha256(parts: Iterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256');
  let sinceTurn = 0;
  for (const part of parts) {
    for (let at = 0; at < part.length; at += PIECE) {
      const piece = part.subarray(at, Math.min(at + PIECE, part.length));
      hash.update(piece);
      sinceTurn += piece.length;
      if (sinceTurn < PIECE) continue;
      sinceTurn = 0;
      await nextTurn();
    }
  }
  return hash.digest('hex');
}
