/** Ranges [start, start + length) by row; rows of length 0 overlap nothing. */
export interface RangeColumns {
  readonly count: number;
  readonly start: Float64Array;
  readonly length: Float64Array;
}

/** Rows looked at before the search lets others run: about a millisecond. */
const ROWS_PER_STEP = 16_384;

/**
 * Finds two rows that share a byte.
 *
 * Rows that already ascend cost one pass (a nanosecond a row); others are sorted by start first.
 * The search yields now and then, so that a million rows need not be searched in one go.
 *
 * @returns the two rows, the one with the lower start first
 */
export function* findOverlap(
  ranges: RangeColumns,
): Generator<undefined, readonly [number, number] | undefined> {
  const { count, start, length } = ranges;
  let end = Number.NEGATIVE_INFINITY;
  let ascending = true;
  for (let row = 0; row < count && ascending; row += 1) {
    if (row % (8 * ROWS_PER_STEP) === 8 * ROWS_PER_STEP - 1) yield;
    const bytes = length[row] as number;
    if (bytes === 0) continue;
    const from = start[row] as number;
    ascending = from >= end;
    end = from + bytes;
  }
  if (ascending) return undefined;
  const order = yield* sortByStart(ranges);
  let last = -1;
  end = Number.NEGATIVE_INFINITY;
  for (let index = 0; index < order.length; index += 1) {
    if (index % (4 * ROWS_PER_STEP) === 4 * ROWS_PER_STEP - 1) yield;
    const row = order[index] as number;
    if ((start[row] as number) < end) return [last, row];
    const rowEnd = (start[row] as number) + (length[row] as number);
    if (rowEnd > end) {
      end = rowEnd;
      last = row;
    }
  }
  return undefined;
}

/** Runs the search in one go; for a few thousand rows. */
export function findOverlapNow(ranges: RangeColumns): readonly [number, number] | undefined {
  const search = findOverlap(ranges);
  for (;;) {
    const step = search.next();
    if (step.done === true) return step.value;
  }
}

/** Indices of the rows that are not empty, by start: pieces are sorted, then merged. */
function* sortByStart({ count, start, length }: RangeColumns): Generator<undefined, Uint32Array> {
  let from = new Uint32Array(count);
  let used = 0;
  for (let row = 0; row < count; row += 1) if (length[row] !== 0) from[used++] = row;
  from = from.subarray(0, used);
  for (let at = 0; at < used; at += ROWS_PER_STEP) {
    from
      .subarray(at, at + ROWS_PER_STEP)
      .sort((a, b) => (start[a] as number) - (start[b] as number));
    yield;
  }
  let into = new Uint32Array(used);
  for (let width = ROWS_PER_STEP; width < used; width *= 2) {
    for (let at = 0; at < used; at += 2 * width) {
      yield* merge(
        start,
        from,
        into,
        at,
        Math.min(at + width, used),
        Math.min(at + 2 * width, used),
      );
    }
    [from, into] = [into, from];
  }
  return from;
}

/** Merges the sorted pieces [low, middle) and [middle, high) of `from` into `into`. */
function* merge(
  start: Float64Array,
  from: Uint32Array,
  into: Uint32Array,
  low: number,
  middle: number,
  high: number,
): Generator<undefined, void> {
  let left = low;
  let right = middle;
  for (let at = low; at < high; at += 1) {
    if ((at - low) % (4 * ROWS_PER_STEP) === 4 * ROWS_PER_STEP - 1) yield;
    const takeLeft =
      right >= high ||
      (left < middle &&
        (start[from[left] as number] as number) <= (start[from[right] as number] as number));
    into[at] = from[takeLeft ? left++ : right++] as number;
  }
}
