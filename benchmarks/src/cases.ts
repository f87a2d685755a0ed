/** One line of the table: a workload of `te bench`. */
export interface BenchCase {
  readonly op: 'write' | 'read';
  readonly block: number;
  readonly batch: number;
  /** Batches in flight. */
  readonly depth: number;
}

const KIB = 1024;
const MIB = 1024 * KIB;

/** Blocks from a few KiB to many MiB, alone and in batches, with a few MiB in flight each. */
const SHAPES: readonly Omit<BenchCase, 'op'>[] = [
  { block: 4 * KIB, batch: 1, depth: 64 },
  { block: 4 * KIB, batch: 16, depth: 4 },
  { block: 4 * KIB, batch: 128, depth: 2 },
  { block: 64 * KIB, batch: 1, depth: 16 },
  { block: 64 * KIB, batch: 16, depth: 2 },
  { block: MIB, batch: 1, depth: 4 },
  { block: MIB, batch: 16, depth: 1 },
  { block: 16 * MIB, batch: 1, depth: 2 },
];

export const FULL: readonly BenchCase[] = SHAPES.flatMap((shape) => [
  { op: 'write', ...shape },
  { op: 'read', ...shape },
]);

export const QUICK: readonly BenchCase[] = FULL.filter(
  ({ block, batch }) => batch === 16 || block === 16 * MIB,
);
