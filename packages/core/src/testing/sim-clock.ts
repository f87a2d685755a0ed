import type { CancelTimer, Clock } from '../base/clock.ts';
import { FakeClock } from './fake-clock.ts';

/** The date at which every simulated world begins. */
const EPOCH_MS = Date.UTC(2026, 0, 1);

/** Time of a simulated world, with a date. */
export class SimClock extends FakeClock {
  readonly #tickMs: number;

  /**
   * @param tickMs timers fire at multiples of this: many at one moment, so that a large world has
   * fewer moments. 0 for exact times.
   */
  constructor(tickMs = 0) {
    super(0);
    this.#tickMs = tickMs;
  }

  dateMs(): number {
    return EPOCH_MS + this.nowMs();
  }

  override scheduleAt(atMs: number, callback: () => void): CancelTimer {
    const tickMs = this.#tickMs;
    // Rounding must not make one tick of two times that are meant to be the same.
    const at = tickMs === 0 ? atMs : Math.ceil(atMs / tickMs - 1e-6) * tickMs;
    return super.scheduleAt(at, callback);
  }
}

/** One process's view of the time of its world: its timers die with it, and can be counted. */
export class ProcessClock implements Clock {
  readonly #world: SimClock;
  readonly #timers = new Set<CancelTimer>();
  #dead = false;

  constructor(world: SimClock) {
    this.#world = world;
  }

  /** Timers that were neither fired nor cancelled. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  nowMs(): number {
    return this.#world.nowMs();
  }

  dateMs(): number {
    return this.#world.dateMs();
  }

  schedule(delayMs: number, callback: () => void): CancelTimer {
    if (this.#dead) return () => undefined;
    const cancelTimer = this.#world.schedule(delayMs, () => {
      this.#timers.delete(cancel);
      callback();
    });
    const cancel = (): void => {
      this.#timers.delete(cancel);
      cancelTimer();
    };
    this.#timers.add(cancel);
    return cancel;
  }

  /** The process is gone: nothing of it happens any more. */
  die(): void {
    this.#dead = true;
    for (const cancel of [...this.#timers]) cancel();
  }
}
