import { WheelEntry } from '../base/deadline-wheel.ts';
import type { SegmentDescriptor } from '../segment/segment-descriptor.ts';
import type { Route } from '../transport/transport.ts';
import { routePauseMs } from './retry.ts';
import type { PriorityClass, Submission } from './submission.ts';

/** What the machine remembers about one route. */
export class RouteState extends WheelEntry {
  readonly route: Route;
  /** The route took less than it was offered; cleared by the next outcome, or by `ready`. */
  full = false;
  /** Failures to connect, since the last outcome that shows a living peer. */
  failures = 0;
  slicesInFlight = 0;
  paused = false;
  readonly #resumed: (state: RouteState) => void;

  constructor(route: Route, resumed: (state: RouteState) => void) {
    super();
    this.route = route;
    this.#resumed = resumed;
  }

  get open(): boolean {
    return !this.full && !this.paused;
  }

  /** Counts a failure and says how long to leave the route alone. */
  fail(): number {
    this.failures += 1;
    this.paused = true;
    return routePauseMs(this.failures);
  }

  override onExpire(): void {
    this.paused = false;
    this.#resumed(this);
  }
}

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
  /** Submissions that have not settled. */
  readonly active = new Set<Submission>();
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

  enqueue(submission: Submission): void {
    if (submission.queued) return;
    submission.queued = true;
    this.waiting[submission.priority].push(submission);
  }

  /** Takes the next submission of a class out of the queue. */
  dequeue(priority: PriorityClass): Submission | undefined {
    const submission = this.waiting[priority].shift();
    if (submission !== undefined) submission.queued = false;
    return submission;
  }
}
