import { WheelEntry } from '../base/deadline-wheel.ts';
import type { SegmentDescriptor } from '../segment/segment-descriptor.ts';
import type { Route } from '../transport/transport.ts';
import { RetryBudget } from './retry.ts';
import { RouteHealth } from './route-health.ts';
import type { Submission } from './submission.ts';

/** What the machine remembers about one route. */
export class RouteState extends WheelEntry {
  readonly route: Route;
  readonly health = new RouteHealth();
  /** The route took less than it was offered; cleared by the next outcome, or by `ready`. */
  full = false;
  slicesInFlight = 0;
  readonly #resumed: (state: RouteState) => void;

  constructor(route: Route, resumed: (state: RouteState) => void) {
    super();
    this.route = route;
    this.#resumed = resumed;
  }

  /** Whether something can be posted now. */
  get open(): boolean {
    if (this.full || this.health.state === 'paused') return false;
    return this.health.state === 'open' || this.slicesInFlight === 0;
  }

  override onExpire(): void {
    this.health.resume();
    this.#resumed(this);
  }
}

/** How long a submission waits before it counts as one class higher, in milliseconds. */
const AGE_MS = 20;

/**
 * Everything that waits for one peer: submissions by priority, and the routes that lead there.
 *
 * Submissions of one priority take turns; a higher priority goes first.
 */
export class PeerQueue {
  readonly name: string;
  routes: RouteState[] = [];
  /** True while the machine has the peer on its list of peers to look at. */
  dirty = false;
  readonly waiting: readonly [Submission[], Submission[], Submission[]] = [[], [], []];
  readonly budget = new RetryBudget();
  /** Bytes of slices that were posted and have no outcome. */
  inFlightBytes = 0;
  /** Submissions that have not settled. */
  readonly active = new Set<Submission>();
  /** Bytes of submissions that have not settled. */
  pendingBytes = 0;
  #waiters: { readonly bytesMax: number; resolve(): void }[] | undefined;
  /** Called when a connection to the peer failed; the document may be out of date. */
  onTrouble: (() => void) | undefined;
  #starts: Float64Array = new Float64Array(0);
  #ends: Float64Array = new Float64Array(0);

  constructor(name: string) {
    this.name = name;
  }

  /** Takes over what a document says about the peer's buffers. */
  describe(descriptor: SegmentDescriptor): void {
    const ranges = descriptor.buffers
      .map(({ address, length }) => ({ start: Number(address), end: Number(address) + length }))
      .filter(({ end }) => Number.isSafeInteger(end))
      .sort((a, b) => a.start - b.start);
    this.#starts = Float64Array.from(ranges, ({ start }) => start);
    this.#ends = Float64Array.from(ranges, ({ end }) => end);
  }

  /** Whether one buffer of the peer's document holds the whole range. */
  holds(address: bigint, length: number): boolean {
    const start = Number(address);
    const starts = this.#starts;
    let low = 0;
    let high = starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((starts[middle] as number) <= start) low = middle + 1;
      else high = middle;
    }
    return low > 0 && start + length <= (this.#ends[low - 1] as number);
  }

  get hasOpenRoute(): boolean {
    for (const route of this.routes) if (route.open) return true;
    return false;
  }

  begin(submission: Submission): void {
    this.active.add(submission);
    this.pendingBytes += submission.totalBytes;
  }

  finish(submission: Submission): void {
    this.active.delete(submission);
    this.pendingBytes -= submission.totalBytes;
    const waiters = this.#waiters;
    if (waiters === undefined) return;
    this.#waiters = undefined;
    for (const waiter of waiters) {
      if (this.pendingBytes <= waiter.bytesMax) waiter.resolve();
      else (this.#waiters ??= []).push(waiter);
    }
  }

  /** Resolves when no more than `bytesMax` bytes wait for this peer: back-pressure for producers. */
  whenBelow(bytesMax: number): Promise<void> {
    if (this.pendingBytes <= bytesMax) return Promise.resolve();
    return new Promise((resolve) => (this.#waiters ??= []).push({ bytesMax, resolve }));
  }

  /** Back into the queue with the age it had. */
  putBack(submission: Submission): void {
    this.enqueue(submission, submission.waitingSinceMs);
  }

  /** @param nowMs when the submission began to wait, for {@link dequeue} */
  enqueue(submission: Submission, nowMs: number): void {
    if (submission.queued) return;
    submission.queued = true;
    submission.waitingSinceMs = nowMs;
    this.waiting[submission.priority].push(submission);
  }

  /**
   * Takes out the submission that is next: the highest class first, the longest waiting of a class
   * first. Who waits long enough counts as one class higher, and then another, so that nobody
   * starves; there is no pause while anybody has work.
   */
  dequeue(nowMs: number): Submission | undefined {
    let chosen: Submission[] | undefined;
    let best = Number.POSITIVE_INFINITY;
    let since = 0;
    for (const queue of this.waiting) {
      const head = queue[0];
      if (head === undefined) continue;
      const aged = Math.floor((nowMs - head.waitingSinceMs) / AGE_MS);
      const rank = Math.max(head.priority - aged, 0);
      if (rank < best || (rank === best && head.waitingSinceMs < since)) {
        best = rank;
        since = head.waitingSinceMs;
        chosen = queue;
      }
    }
    const submission = chosen?.shift();
    if (submission !== undefined) submission.queued = false;
    return submission;
  }
}
