/** Addresses that are remembered; the one that was quiet for longest is forgotten first. */
const ADDRESSES_MAX = 65_536;

/** Lets every address make so many requests a second, and a burst of as many after a pause. */
export class RateLimiter {
  readonly #perSecond: number;
  readonly #nowMs: () => number;
  readonly #buckets = new Map<string, { tokens: number; atMs: number }>();

  constructor(perSecond: number, nowMs: () => number = () => performance.now()) {
    this.#perSecond = perSecond;
    this.#nowMs = nowMs;
  }

  /** Whether a request of this address may be served now. */
  take(address: string): boolean {
    const nowMs = this.#nowMs();
    const bucket = this.#buckets.get(address) ?? { tokens: this.#perSecond, atMs: nowMs };
    this.#buckets.delete(address);
    this.#buckets.set(address, bucket);
    const earned = ((nowMs - bucket.atMs) / 1000) * this.#perSecond;
    bucket.tokens = Math.min(this.#perSecond, bucket.tokens + earned);
    bucket.atMs = nowMs;
    if (this.#buckets.size > ADDRESSES_MAX) {
      const [quietest] = this.#buckets.keys();
      if (quietest !== undefined) this.#buckets.delete(quietest);
    }
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }
}
