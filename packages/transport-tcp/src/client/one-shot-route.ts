import {
  Outcome,
  Slice,
  type Aftermath,
  type EngineError,
  type Peer,
  type Route,
  type SliceRun,
  type Transport,
} from '@transfer-engine/core/transport';
import type { Fault } from '../session/fault.ts';
import { Lane, type LaneOwner } from './lane.ts';
import type { RouteDeps } from './route-deps.ts';

/** Requests that wait for a connection of their own, at most. */
const WAITING_MAX = 512;
const UNTOUCHED: Aftermath = { destination: 'untouched' };

/**
 * The way to a v1 peer: a connection for each request, because peers up to v0.3.9 serve only one,
 * and a v1 document does not tell. Requests run side by side; the ends of a run are reported in
 * their order.
 */
export class OneShotRoute implements Route {
  readonly transport: Transport;
  readonly peer: Peer;
  readonly sliceBytes = Number.POSITIVE_INFINITY;
  readonly writeDurability = 'sent';
  readonly #deps: RouteDeps;
  readonly #lanesMax: number;
  readonly #waiting: OneShot[] = [];
  readonly #lanes = new Set<Lane>();
  /** The requests of each run, in the order in which they were taken; reported from the front. */
  readonly #runs = new Map<SliceRun, OneShot[]>();
  #closed = false;

  constructor(deps: RouteDeps) {
    this.#deps = deps;
    this.transport = deps.transport;
    this.peer = deps.peer;
    this.#lanesMax = deps.settings.lanesPerPeer * 2;
  }

  post(run: SliceRun): number {
    let count = 0;
    let slice = new Slice();
    while (!this.#closed && this.#waiting.length < WAITING_MAX && run.peek(slice)) {
      run.take();
      count += 1;
      const shot = new OneShot(run, slice, {
        onEnded: this.#shotEnded,
        onProgress: this.#progress,
        onLaneClosed: this.#laneClosed,
      });
      this.#waiting.push(shot);
      const shots = this.#runs.get(run);
      if (shots === undefined) this.#runs.set(run, [shot]);
      else shots.push(shot);
      slice = new Slice();
    }
    this.#startNext();
    return count;
  }

  cancel(run: SliceRun, graceMs: number): void {
    const canceled = this.#deps.faults.canceled();
    for (const shot of [...(this.#runs.get(run) ?? [])]) {
      if (shot.lane !== undefined) {
        shot.lane.cancel(run, graceMs);
      } else if (!shot.ended) {
        this.#waiting.splice(this.#waiting.indexOf(shot), 1);
        shot.end(canceled, UNTOUCHED);
      }
    }
    this.#report(run);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#deps.onClosing(this);
    const closed = this.#deps.faults.closed();
    for (const shot of this.#waiting.splice(0)) shot.end(closed, UNTOUCHED);
    for (const run of [...this.#runs.keys()]) this.#report(run);
    await Promise.all([...this.#lanes].map((lane) => lane.close()));
    this.#deps.onClosed(this);
  }

  #startNext(): void {
    while (this.#lanes.size < this.#lanesMax) {
      const shot = this.#waiting.shift();
      if (shot === undefined) return;
      const lane = new Lane({ ...this.#deps, version: 1, extended: undefined, owner: shot });
      this.#lanes.add(lane);
      shot.lane = lane;
      lane.accept(shot.run, shot.slice);
      lane.wake();
    }
  }

  readonly #shotEnded = (shot: OneShot): void => this.#report(shot.run);

  readonly #progress = (run: SliceRun): void => this.#deps.sink.progress?.(run);

  readonly #laneClosed = (lane: Lane): void => {
    this.#lanes.delete(lane);
    this.#startNext();
  };

  #report(run: SliceRun): void {
    const shots = this.#runs.get(run);
    if (shots === undefined) return;
    for (;;) {
      const shot = shots[0];
      if (shot?.ended !== true) break;
      shots.shift();
      if (shots.length === 0) this.#runs.delete(run);
      const outcome = shot.fault?.outcome ?? Outcome.ok;
      this.#deps.sink.complete(run, 1, outcome, shot.fault?.error, shot.aftermath);
    }
  }
}

interface OneShotListeners {
  readonly onEnded: (shot: OneShot) => void;
  readonly onProgress: (run: SliceRun) => void;
  readonly onLaneClosed: (lane: Lane) => void;
}

/** One request from its acceptance to its report. */
class OneShot implements LaneOwner {
  readonly run: SliceRun;
  readonly slice: Slice;
  lane: Lane | undefined;
  /** Undefined when it ended well. */
  fault: Fault | undefined;
  aftermath: Aftermath | undefined;
  ended = false;
  readonly #listeners: OneShotListeners;

  constructor(run: SliceRun, slice: Slice, listeners: OneShotListeners) {
    this.run = run;
    this.slice = slice;
    this.#listeners = listeners;
  }

  end(fault: Fault | undefined, aftermath: Aftermath | undefined): void {
    this.fault = fault;
    this.aftermath = aftermath;
    this.ended = true;
  }

  complete(
    _run: SliceRun,
    _count: number,
    outcome: Outcome,
    error: EngineError | undefined,
    aftermath: Aftermath | undefined,
  ): void {
    this.end(outcome === Outcome.ok ? undefined : { outcome, error }, aftermath);
    this.#listeners.onEnded(this);
  }

  progress(run: SliceRun): void {
    this.#listeners.onProgress(run);
  }

  readonly knowsExtended = false;

  laneFinished(): void {}

  laneExtended(): void {}

  laneFellBack(): void {}

  laneFreed(): void {}

  laneRetired(): void {}

  laneClosed(lane: Lane): void {
    this.#listeners.onLaneClosed(lane);
  }

  hasConnectedSibling(): boolean {
    return false;
  }
}
