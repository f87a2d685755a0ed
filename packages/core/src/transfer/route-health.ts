const HALF_LIFE_MS = 10_000;
const PAUSE_MIN_MS = 10;
const PAUSE_MAX_MS = 2_000;

/**
 * Remembers how a route did, and forgets it slowly.
 *
 * After a failure the route is left alone for a while that grows with its failures of late; then
 * one slice may try it (half open), and only its success opens the route again.
 */
export class RouteHealth {
  #score = 0;
  #scoredAtMs = 0;
  #state: 'open' | 'paused' | 'halfOpen' = 'open';
  #failuresInRow = 0;

  get state(): 'open' | 'paused' | 'halfOpen' {
    return this.#state;
  }

  /** Failures since something went well for the last time. */
  get failuresInRow(): number {
    return this.#failuresInRow;
  }

  /** Failures of late; old ones count less. */
  score(nowMs: number): number {
    return this.#score * 0.5 ** ((nowMs - this.#scoredAtMs) / HALF_LIFE_MS);
  }

  /** A connection could not be made. @returns how long to leave the route alone, in milliseconds. */
  fail(nowMs: number): number {
    this.#score = this.score(nowMs) + 1;
    this.#scoredAtMs = nowMs;
    this.#failuresInRow += 1;
    this.#state = 'paused';
    return Math.min(PAUSE_MIN_MS * 4 ** (this.#score - 1), PAUSE_MAX_MS);
  }

  /** The pause is over: one slice may try. */
  resume(): void {
    if (this.#state === 'paused') this.#state = 'halfOpen';
  }

  /** Something went well. */
  succeed(): void {
    this.#failuresInRow = 0;
    if (this.#state === 'open') return;
    this.#state = 'open';
    this.#score = 0;
  }
}
