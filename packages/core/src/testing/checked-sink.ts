import type { EngineError } from '../base/errors.ts';
import { invariant } from '../base/invariant.ts';
import { Outcome, OUTCOME_NAMES, type Aftermath } from '../transport/outcome.ts';
import type { Slice, SliceRun } from '../transport/slice.ts';
import type {
  CompletionSink,
  Peer,
  Route,
  Transport,
  TransportFactory,
} from '../transport/transport.ts';

export interface CheckedSinkOptions {
  /** Called with what was broken. Default: throws through `invariant`. */
  readonly onViolation?: (message: string) => void;
}

/**
 * Stands between a transport and a sink, and checks the clauses of the contract that can be seen
 * there: a prefix is taken and counted rightly, each taken slice gets one outcome, never inside
 * `post`, and nothing comes after `close`.
 *
 * Routes are wrapped by {@link CheckedSink.route}, and the wrapped route is the one to post to.
 */
export class CheckedSink implements CompletionSink {
  readonly #inner: CompletionSink;
  readonly #onViolation: (message: string) => void;
  readonly #posting: CheckedRoute[] = [];
  readonly #routes = new Map<Route, CheckedRoute>();
  readonly #runs = new Map<SliceRun, CheckedRun>();
  #owned = 0;

  constructor(inner: CompletionSink, options: CheckedSinkOptions = {}) {
    this.#inner = inner;
    this.#onViolation = options.onViolation ?? ((message) => invariant(false, message));
  }

  /** Slices that transports own now: taken, and without outcome. */
  get owned(): number {
    return this.#owned;
  }

  /** Wraps a route that reports to this sink. */
  route(route: Route): Route {
    let checked = this.#routes.get(route);
    if (checked === undefined) {
      checked = new CheckedRoute(this, route);
      this.#routes.set(route, checked);
    }
    return checked;
  }

  complete(
    run: SliceRun,
    count: number,
    outcome: Outcome,
    error?: EngineError,
    aftermath?: boolean | Aftermath,
  ): void {
    const told = `complete(${count}, ${OUTCOME_NAMES[outcome] ?? String(outcome)})`;
    this.#check(this.#posting.length === 0, `${told} was called inside post`);
    this.#check(OUTCOME_NAMES[outcome] !== undefined, `${told}: there is no such outcome`);
    this.#check(Number.isInteger(count) && count >= 1, `${told}: count is a number from 1 on`);
    this.#check(
      outcome !== Outcome.ok || (error === undefined && !mayChange(aftermath)),
      `${told}: what went well has no error, and its destination does not change any more`,
    );
    const safe = outcome === Outcome.rejected || outcome === Outcome.replay;
    this.#check(
      !safe || !mayChange(aftermath),
      `${told}: the destination of such a slice does not change any more`,
    );
    if (!(run instanceof CheckedRun)) {
      this.violation(`${told}: the run was never posted through this sink`);
      return;
    }
    this.#check(
      count <= run.owned,
      `${told}: only ${run.owned} taken slices of the run had no outcome; one slice, one outcome`,
    );
    this.#check(!run.route.drained, `${told} came after the route was closed`);
    const settled = Math.min(count, run.owned);
    run.owned -= settled;
    run.route.owned -= settled;
    this.#owned -= settled;
    if (run.owned === 0) this.#runs.delete(run.inner);
    if (settled > 0) this.#inner.complete(run.inner, settled, outcome, error, aftermath);
  }

  progress(run: SliceRun): void {
    if (!(run instanceof CheckedRun) || run.owned === 0) {
      this.violation('progress was called for a run of which nothing is owned');
      return;
    }
    this.#inner.progress?.(run.inner);
  }

  ready(route: Route): void {
    const checked = this.#routes.get(route);
    if (checked === undefined) {
      this.violation('ready was called with a route that was never posted to');
      return;
    }
    this.#check(this.#posting.length === 0, 'ready was called inside post');
    this.#check(checked.pushedBack, 'ready was called though post took all that it was offered');
    checked.pushedBack = false;
    this.#inner.ready(checked);
  }

  /** Reports a broken promise; for the parts of this file. */
  violation(message: string): void {
    this.#onViolation(message);
  }

  post(checked: CheckedRoute, run: SliceRun): number {
    let watched = this.#runs.get(run);
    if (watched === undefined || watched.route !== checked) {
      this.#check(watched === undefined, 'a run is posted to one route at a time');
      watched = new CheckedRun(this, checked, run);
      this.#runs.set(run, watched);
    }
    watched.taken = 0;
    watched.sawEnd = false;
    watched.peeked = false;
    this.#posting.push(checked);
    let count: number;
    try {
      count = checked.inner.post(watched);
    } finally {
      this.#posting.pop();
    }
    const { taken } = watched;
    this.#check(count === taken, `post returned ${count}, and took ${taken} slices`);
    this.#check(!checked.closed || taken === 0, 'post took slices after the route was closed');
    if (!watched.sawEnd) checked.pushedBack = true;
    watched.owned += taken;
    checked.owned += taken;
    this.#owned += taken;
    if (watched.owned === 0) this.#runs.delete(run);
    return taken;
  }

  cancel(checked: CheckedRoute, run: SliceRun, graceMs: number): void {
    const watched = this.#runs.get(run);
    // A run that nothing was taken from, or that has ended, is unknown to the transport too.
    checked.inner.cancel(watched?.route === checked ? watched : run, graceMs);
  }

  forget(route: Route): void {
    this.#routes.delete(route);
  }

  #check(condition: boolean, message: string): void {
    if (!condition) this.violation(message);
  }
}

/** A run as the transport sees it, with what it took. */
class CheckedRun implements SliceRun {
  readonly inner: SliceRun;
  readonly route: CheckedRoute;
  readonly #sink: CheckedSink;
  /** Taken by the current call of `post`. */
  taken = 0;
  owned = 0;
  /** The last `peek` found a slice, which was not taken yet. */
  peeked = false;
  /** The current call of `post` found the end of the run. */
  sawEnd = false;

  constructor(sink: CheckedSink, route: CheckedRoute, inner: SliceRun) {
    this.#sink = sink;
    this.route = route;
    this.inner = inner;
  }

  peek(into: Slice): boolean {
    this.peeked = this.inner.peek(into);
    if (this.peeked) this.#checkSlice(into);
    else this.sawEnd = true;
    return this.peeked;
  }

  /** What core offers has to be well-formed too. */
  #checkSlice({ store, offset, length, addressLow, addressHigh }: Slice): void {
    const inside =
      store !== undefined &&
      Number.isSafeInteger(offset) &&
      Number.isSafeInteger(length) &&
      offset >= 0 &&
      length >= 1 &&
      offset + length <= store.length;
    const words = addressLow >>> 0 === addressLow && addressHigh >>> 0 === addressHigh;
    if (inside && words) return;
    this.#sink.violation(
      `a run offers ${length} bytes at ${offset} of ${store?.length ?? 'no'} local bytes, ` +
        `to the address words ${addressHigh}, ${addressLow}`,
    );
  }

  take(): void {
    if (!this.peeked) this.#sink.violation('take was called without a peek that found a slice');
    this.peeked = false;
    this.taken += 1;
    this.inner.take();
  }
}

class CheckedRoute implements Route {
  readonly inner: Route;
  readonly #sink: CheckedSink;
  owned = 0;
  closed = false;
  /** `close` has resolved: nothing may come any more. */
  drained = false;
  /** A `post` since the last `ready` took less than it was offered. */
  pushedBack = false;

  constructor(sink: CheckedSink, inner: Route) {
    this.#sink = sink;
    this.inner = inner;
  }

  get transport(): Transport {
    return this.inner.transport;
  }
  get peer(): Peer {
    return this.inner.peer;
  }
  get sliceBytes(): number {
    return this.inner.sliceBytes;
  }
  get writeDurability(): 'applied' | 'sent' {
    return this.inner.writeDurability;
  }

  post(run: SliceRun): number {
    return this.#sink.post(this, run);
  }

  cancel(run: SliceRun, graceMs: number): void {
    this.#sink.cancel(this, run, graceMs);
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.inner.close();
    if (this.owned > 0) {
      this.#sink.violation(`close resolved while ${this.owned} slices had no outcome`);
    }
    this.drained = true;
    this.#sink.forget(this.inner);
  }
}

/**
 * The same transport, watched: everything between it and the engine goes through a
 * {@link CheckedSink}.
 */
export function checkedTransport(
  factory: TransportFactory,
  options: CheckedSinkOptions = {},
): TransportFactory {
  return {
    name: factory.name,
    create(host) {
      const sink = new CheckedSink(host.sink, options);
      const transport = factory.create(replaceMember(host, 'sink', sink));
      const reach = (peer: Peer): Route | undefined => {
        const route = transport.reach(peer);
        return route === undefined ? undefined : sink.route(route);
      };
      return replaceMember(transport, 'reach', reach);
    },
  };
}

function mayChange(aftermath: boolean | Aftermath | undefined): boolean {
  if (typeof aftermath === 'object') return aftermath.destination === 'unknown';
  return aftermath === false;
}

/** The same object with another value for one member; the rest keeps its `this`. */
function replaceMember<T extends object, K extends keyof T>(whole: T, name: K, value: T[K]): T {
  return new Proxy(whole, {
    get(target, property) {
      if (property === name) return value;
      const member: unknown = Reflect.get(target, property, target);
      return typeof member === 'function' ? (member.bind(target) as unknown) : member;
    },
  });
}
