import { RowState, type ControlRow } from './control-layout.ts';

/** What a peer offers at one moment, found by address. */
export class PeerTable {
  readonly #rows: readonly ControlRow[];
  readonly #starts: Float64Array;
  #lastHit: ControlRow | undefined;

  constructor(rows: readonly ControlRow[]) {
    this.#rows = rows
      .filter(({ state }) => state === RowState.offered)
      .sort((a, b) => a.address - b.address);
    this.#starts = Float64Array.from(this.#rows, ({ address }) => address);
  }

  get rows(): readonly ControlRow[] {
    return this.#rows;
  }

  /** The row that holds all of the range; NaN for an address beyond 2^53 finds nothing. */
  find(address: number, length: number): ControlRow | undefined {
    let row = this.#lastHit;
    if (row === undefined || !(address >= row.address && address < row.address + row.length)) {
      row = this.#rows[this.#indexAtOrBefore(address)];
      if (row === undefined) return undefined;
      this.#lastHit = row;
    }
    const inside = address >= row.address && length <= row.length - (address - row.address);
    return inside ? row : undefined;
  }

  #indexAtOrBefore(address: number): number {
    let low = 0;
    let high = this.#starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#starts[middle] as number) <= address) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}
