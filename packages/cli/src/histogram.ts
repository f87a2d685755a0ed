const SUB_BITS = 6;
const SUB = 2 ** SUB_BITS;
/** Values up to 2^42 ns, more than an hour; larger ones count as that. */
const MAX_EXPONENT = 42;

/**
 * Latencies in buckets that grow with the value: 64 to each doubling, so a percentile is off by at
 * most 1.6 %. A sample costs one array increment and no memory.
 */
export class LatencyHistogram {
  readonly #counts = new Float64Array(SUB + (MAX_EXPONENT - SUB_BITS) * SUB);
  #count = 0;
  #min = Number.POSITIVE_INFINITY;
  #max = 0;

  get count(): number {
    return this.#count;
  }

  /** Adds one sample, in milliseconds. */
  recordMs(ms: number): void {
    const ns = Math.max(0, Math.round(ms * 1e6));
    const index = bucketOf(ns);
    this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    this.#count += 1;
    if (ns < this.#min) this.#min = ns;
    if (ns > this.#max) this.#max = ns;
  }

  /** Value that `percent` of the samples do not exceed, in microseconds; 0 without samples. */
  percentileUs(percent: number): number {
    if (this.#count === 0) return 0;
    const rank = Math.max(1, Math.ceil((percent / 100) * this.#count));
    let seen = 0;
    for (let index = 0; index < this.#counts.length; index += 1) {
      seen += this.#counts[index] ?? 0;
      if (seen >= rank) {
        return Math.min(Math.max(middleOf(index), this.#min), this.#max) / 1e3;
      }
    }
    return this.#max / 1e3;
  }

  merge(other: LatencyHistogram): void {
    for (let index = 0; index < this.#counts.length; index += 1) {
      this.#counts[index] = (this.#counts[index] ?? 0) + (other.#counts[index] ?? 0);
    }
    this.#count += other.#count;
    this.#min = Math.min(this.#min, other.#min);
    this.#max = Math.max(this.#max, other.#max);
  }
}

function bucketOf(ns: number): number {
  if (ns < SUB) return ns;
  const high = Math.floor(ns / 2 ** 32);
  const exponent = high > 0 ? 63 - Math.clz32(high) : 31 - Math.clz32(ns);
  if (exponent >= MAX_EXPONENT) return SUB + (MAX_EXPONENT - SUB_BITS) * SUB - 1;
  const sub = Math.floor(ns / 2 ** (exponent - SUB_BITS)) - SUB;
  return SUB + (exponent - SUB_BITS) * SUB + sub;
}

function middleOf(index: number): number {
  if (index < SUB) return index;
  const octave = Math.floor((index - SUB) / SUB);
  const sub = (index - SUB) % SUB;
  return (SUB + sub + 0.5) * 2 ** octave;
}
