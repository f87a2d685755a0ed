import type { CancelTimer, Clock } from '../base/clock.ts';
import { invariant } from '../base/invariant.ts';

/** Timers that one `advance` or `runAll` may fire before it is taken for an endless loop. */
const TIMERS_MAX = 10_000_000;
/** From this size on, a heap of mostly cancelled timers is rebuilt without them. */
const COMPACT_FROM = 1_024;

interface Timer {
  readonly atMs: number;
  /** Breaks ties: timers of one instant fire in the order in which they were made. */
  readonly order: number;
  callback: (() => void) | undefined;
}

/**
 * Time that stands still until a test moves it.
 *
 * Timers fire in the order of their time, then of their creation, with `nowMs()` at their time.
 * Callbacks may schedule, cancel and even advance; a callback that throws leaves the clock sound.
 */
export class FakeClock implements Clock {
  #nowMs: number;
  #order = 0;
  #pending = 0;
  /** A binary heap; cancelled timers stay in it without a callback until they reach the top. */
  readonly #heap: Timer[] = [];

  constructor(startMs = 0) {
    this.#nowMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  /** Timers that were neither fired nor cancelled. */
  get pendingTimers(): number {
    return this.#pending;
  }

  /** Time on this clock at which the next timer fires; undefined when there is none. */
  get nextTimerMs(): number | undefined {
    return this.#top()?.atMs;
  }

  schedule(delayMs: number, callback: () => void): CancelTimer {
    invariant(!Number.isNaN(delayMs), 'a delay is a number of milliseconds');
    return this.scheduleAt(this.#nowMs + Math.max(delayMs, 0), callback);
  }

  /** Calls back at a time on this clock; at once in the next step when it has passed. */
  scheduleAt(atMs: number, callback: () => void): CancelTimer {
    const timer: Timer = { atMs, order: this.#order, callback };
    this.#order += 1;
    this.#pending += 1;
    this.#push(timer);
    return () => {
      if (timer.callback === undefined) return;
      timer.callback = undefined;
      this.#pending -= 1;
      if (this.#heap.length > COMPACT_FROM && this.#heap.length > 4 * this.#pending) {
        this.#compact();
      }
    };
  }

  /** Moves time on by `ms` and fires everything that falls due on the way. */
  advance(ms: number): void {
    invariant(ms >= 0, 'time does not run backwards');
    const endMs = this.#nowMs + ms;
    for (let fired = 0; ; fired += 1) {
      const timer = this.#top();
      if (timer === undefined || timer.atMs > endMs) break;
      invariant(fired < TIMERS_MAX, 'timers of a fake clock schedule each other without end');
      this.#fire(timer);
    }
    this.#nowMs = Math.max(this.#nowMs, endMs);
  }

  /** Moves time to the next timer and fires this one alone; false when there is none. */
  step(): boolean {
    const timer = this.#top();
    if (timer === undefined) return false;
    this.#fire(timer);
    return true;
  }

  /** Fires timers, also those that they make, until none is left. Returns how many fired. */
  runAll(timersMax = TIMERS_MAX): number {
    let fired = 0;
    while (this.step()) {
      fired += 1;
      invariant(fired <= timersMax, `more than ${timersMax} timers fired; do they never end?`);
    }
    return fired;
  }

  /**
   * Steps from timer to timer until the promise is settled, and gives pending promises their turn
   * in between. Throws when no timer is left and the promise still waits.
   */
  async runUntil<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const mark = () => {
      settled = true;
    };
    promise.then(mark, mark);
    let idleTurns = 0;
    while (!settled && idleTurns < 3) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      if (settled) break;
      idleTurns = this.step() ? 0 : idleTurns + 1;
    }
    invariant(settled, 'no timer is left, and the promise is not settled');
    return promise;
  }

  #fire(timer: Timer): void {
    this.#pop();
    const { callback } = timer;
    timer.callback = undefined;
    this.#pending -= 1;
    this.#nowMs = Math.max(this.#nowMs, timer.atMs);
    callback?.();
  }

  #top(): Timer | undefined {
    while (this.#heap.length > 0 && this.#heap[0]?.callback === undefined) this.#pop();
    return this.#heap[0];
  }

  /** Without cancelled timers. A sorted list is a heap. */
  #compact(): void {
    const live = this.#heap.filter(({ callback }) => callback !== undefined);
    live.sort((a, b) => a.atMs - b.atMs || a.order - b.order);
    this.#heap.length = 0;
    for (const timer of live) this.#heap.push(timer);
  }

  #push(timer: Timer): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(timer);
    while (index > 0) {
      const parent = (index - 1) >>> 1;
      const above = heap[parent] as Timer;
      if (!firesBefore(timer, above)) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = timer;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      const right = heap[child + 1];
      if (right !== undefined && firesBefore(right, heap[child] as Timer)) child += 1;
      const below = heap[child] as Timer;
      if (!firesBefore(below, last)) break;
      heap[index] = below;
      index = child;
    }
    heap[index] = last;
  }
}

function firesBefore(a: Timer, b: Timer): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
