import { invariant } from '../base/invariant.ts';

/** Weight of the old estimate after a sample of one full quantum; smaller samples weigh less. */
const KEEP = 0.85;
/** A sample of this many bytes counts fully. */
const QUANTUM_BYTES = 1024 * 1024;
/** Every so many choices the rail that was measured longest ago is taken, so that it is not forgotten. */
const PROBE_EVERY = 128;
/** Estimates stay within this factor of the median, so that one odd sample starves nobody. */
const SPREAD_MAX = 64;

interface Rail {
  /** Bytes per millisecond that the rail moved lately; 0 before the first sample. */
  rate: number;
  inFlightBytes: number;
  penalty: number;
  usable: boolean;
  /** Number of the choice that was measured last. */
  sampledAt: number;
}

/**
 * Spreads work over rails (connections, NICs, paths) by what they have in flight and how fast they
 * were lately.
 *
 * A rail's score is the time in which it would be done: (bytes in flight + bytes to add) / rate,
 * times its penalty; the smallest wins. Bytes are counted exactly, in both directions, so that an
 * idle scheduler always has zero in flight. Rates are a mean that old samples leave slowly, and are
 * taken from the time of service, not of waiting in our own queues.
 *
 * The idea of cost by bytes in flight over measured bandwidth is TENT's.
 * Source: Mooncake 3b5a594, src/transport/rdma/quota.cpp.
 */
export class RailScheduler {
  readonly #rails: Rail[] = [];
  #choices = 0;

  /** @param count number of rails, 0 or more; more can be added. */
  constructor(count = 0) {
    for (let index = 0; index < count; index += 1) this.add();
  }

  /** Adds a rail and returns its index. @param penalty factor on its cost; 1 for the best tier. */
  add(penalty = 1): number {
    this.#rails.push({ rate: 0, inFlightBytes: 0, penalty, usable: true, sampledAt: 0 });
    return this.#rails.length - 1;
  }

  get size(): number {
    return this.#rails.length;
  }

  /** Takes a rail out of the choice, or back in. What is in flight on it stays counted. */
  setUsable(index: number, usable: boolean): void {
    this.#rail(index).usable = usable;
  }

  inFlightBytes(index: number): number {
    return this.#rail(index).inFlightBytes;
  }

  /** Bytes per millisecond; 0 before the first sample. */
  rate(index: number): number {
    return this.#rail(index).rate;
  }

  /**
   * The rail for the next `bytes`, or -1 when none can take them.
   *
   * @param accepts whether a rail has room for exactly this much
   */
  pick(bytes: number, accepts: (index: number) => boolean): number {
    this.#choices += 1;
    if (this.#choices % PROBE_EVERY === 0) {
      const probe = this.#leastSampled(accepts);
      if (probe >= 0) return probe;
    }
    const fallback = this.#typicalRate();
    let best = -1;
    let bestScore = Number.POSITIVE_INFINITY;
    for (let index = 0; index < this.#rails.length; index += 1) {
      const rail = this.#rails[index] as Rail;
      if (!rail.usable || !accepts(index)) continue;
      const rate = rail.rate === 0 ? fallback : rail.rate;
      const score = ((rail.inFlightBytes + bytes) / rate) * rail.penalty;
      if (score < bestScore) {
        best = index;
        bestScore = score;
      }
    }
    return best;
  }

  /** `bytes` were handed to a rail. */
  posted(index: number, bytes: number): void {
    this.#rail(index).inFlightBytes += bytes;
  }

  /**
   * `bytes` left a rail, well or badly.
   *
   * @param serviceMs how long the rail worked on them; undefined when that says nothing about its
   * speed (a failure, or nothing to measure).
   */
  finished(index: number, bytes: number, serviceMs?: number): void {
    const rail = this.#rail(index);
    rail.inFlightBytes -= bytes;
    invariant(rail.inFlightBytes >= 0, 'a rail does not finish more bytes than were posted');
    if (serviceMs === undefined || !(serviceMs > 0) || bytes === 0) return;
    const sample = bytes / serviceMs;
    const keep = KEEP ** Math.min(bytes / QUANTUM_BYTES, 1);
    rail.rate = rail.rate === 0 ? sample : rail.rate * keep + sample * (1 - keep);
    const typical = this.#typicalRate();
    rail.rate = Math.min(Math.max(rail.rate, typical / SPREAD_MAX), typical * SPREAD_MAX);
    rail.sampledAt = this.#choices;
  }

  #leastSampled(accepts: (index: number) => boolean): number {
    let best = -1;
    for (let index = 0; index < this.#rails.length; index += 1) {
      const rail = this.#rails[index] as Rail;
      if (!rail.usable || !accepts(index)) continue;
      if (best < 0 || rail.sampledAt < (this.#rails[best] as Rail).sampledAt) best = index;
    }
    return best;
  }

  /** Mean rate of the rails that were measured; 1 before the first sample. */
  #typicalRate(): number {
    let sum = 0;
    let measured = 0;
    for (const { rate } of this.#rails) {
      if (rate === 0) continue;
      sum += rate;
      measured += 1;
    }
    return measured === 0 ? 1 : sum / measured;
  }

  #rail(index: number): Rail {
    const rail = this.#rails[index];
    invariant(rail !== undefined, `there is a rail ${index}`);
    return rail;
  }
}
