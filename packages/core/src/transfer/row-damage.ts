import type { EngineError } from '../base/errors.ts';
import type { Aftermath } from '../transport/outcome.ts';

/** Bytes [offset, offset + length) of a request, counted from its start. */
export type ByteRange = readonly [offset: number, length: number];

/** What is known about the destination of a request that did not complete. */
export interface DestinationReport {
  /**
   * - `untouched`: nothing was applied, and nothing will be.
   * - `quiescent`: nothing will be applied any more; `appliedRanges` were.
   * - `unknown`: `unknownRanges` may change at any time.
   */
  readonly state: 'untouched' | 'quiescent' | 'unknown';
  /** Known to be applied. When the wire does not tell, more may have been applied than is listed. */
  readonly appliedRanges: readonly ByteRange[];
  readonly unknownRanges: readonly ByteRange[];
}

const UNTOUCHED: Aftermath = { destination: 'untouched' };
const QUIESCENT: Aftermath = { destination: 'quiescent' };
const UNKNOWN: Aftermath = { destination: 'unknown' };

export function toAftermath(given: boolean | Aftermath | undefined): Aftermath {
  if (typeof given === 'object') return given;
  return given === false ? UNKNOWN : QUIESCENT;
}

/** Gathers what happened to the slices of one row that failed. */
export class RowDamage {
  /** The first error; the others follow from it or say the same. */
  readonly error: EngineError;
  #touched = false;
  readonly #applied: ByteRange[] = [];
  readonly #unknown: ByteRange[] = [];

  constructor(error: EngineError) {
    this.error = error;
  }

  add(part: number, length: number, aftermath: Aftermath = UNTOUCHED): void {
    const applied = Math.min(aftermath.appliedBytes ?? 0, length);
    if (aftermath.destination !== 'untouched') this.#touched = true;
    if (applied > 0) this.#applied.push([part, applied]);
    if (aftermath.destination === 'unknown' && length > applied) {
      this.#unknown.push([part + applied, length - applied]);
    }
  }

  /** @param applied slices of the row that went well */
  report(applied: readonly ByteRange[]): DestinationReport {
    const appliedRanges = joinRanges([...applied, ...this.#applied]);
    const unknownRanges = joinRanges(this.#unknown);
    const touched = this.#touched || appliedRanges.length > 0;
    const quiet = touched ? 'quiescent' : 'untouched';
    return { state: unknownRanges.length > 0 ? 'unknown' : quiet, appliedRanges, unknownRanges };
  }
}

/** Sorts ranges and joins those that touch. */
export function joinRanges(ranges: readonly ByteRange[]): ByteRange[] {
  const joined: [number, number][] = [];
  for (const [offset, length] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = joined.at(-1);
    if (last !== undefined && offset <= last[0] + last[1]) {
      last[1] = Math.max(last[1], offset + length - last[0]);
    } else {
      joined.push([offset, length]);
    }
  }
  return joined;
}
