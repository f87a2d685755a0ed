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

/** After a failed attempt, further lanes are not tried for this long while one is connected. */
const SIBLING_COOLDOWN_MS = 1000;

/** The way to a v2 peer: a few persistent lanes, made when there is work for them. */
export class LaneRoute implements Route, LaneOwner {
  readonly transport: Transport;
  readonly peer: Peer;
  readonly sliceBytes: number;
  readonly writeDurability = 'applied';
  readonly #deps: RouteDeps;
  readonly #slice = new Slice();
  /** Lanes that take work. */
  readonly #lanes: Lane[] = [];
  /** Lanes that take none, until their sockets have closed. */
  readonly #retired = new Set<Lane>();
  /** Runs of which only a part was taken: the rest goes to the same lane, to keep the order. */
  readonly #partial = new Map<SliceRun, Lane>();
  /** A post was short, and nothing has told core of room since. */
  #short = false;
  #closed = false;
  #noNewLaneUntilMs = Number.NEGATIVE_INFINITY;

  constructor(deps: RouteDeps) {
    this.#deps = deps;
    this.transport = deps.transport;
    this.peer = deps.peer;
    this.sliceBytes = deps.settings.sliceBytes;
  }

  post(run: SliceRun): number {
    const slice = this.#slice;
    if (this.#closed || !run.peek(slice)) return 0;
    const lane = this.#laneFor(run);
    let count = 0;
    let more = true;
    while (more && lane?.fits(slice.length) === true) {
      lane.accept(run, slice);
      run.take();
      count += 1;
      more = run.peek(slice);
    }
    this.#short = more;
    if (more && lane !== undefined) this.#partial.set(run, lane);
    else if (this.#partial.size > 0) this.#partial.delete(run);
    if (count > 0) lane?.wake();
    return count;
  }

  cancel(run: SliceRun, graceMs: number): void {
    this.#partial.delete(run);
    for (const lane of [...this.#lanes, ...this.#retired]) lane.cancel(run, graceMs);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#deps.onClosing(this);
    this.#partial.clear();
    const lanes = [...this.#lanes, ...this.#retired];
    await Promise.all(lanes.map((lane) => lane.close()));
    this.#deps.onClosed(this);
  }

  // ---- what lanes tell

  complete(
    run: SliceRun,
    count: number,
    outcome: Outcome,
    error: EngineError | undefined,
    aftermath: Aftermath | undefined,
  ): void {
    this.#short = false;
    this.#deps.sink.complete(run, count, outcome, error, aftermath);
  }

  progress(run: SliceRun): void {
    this.#deps.sink.progress?.(run);
  }

  laneFreed(): void {
    if (!this.#short || this.#closed) return;
    this.#short = false;
    this.#deps.sink.ready(this);
  }

  laneRetired(lane: Lane, fault: Fault): void {
    const index = this.#lanes.indexOf(lane);
    if (index >= 0) this.#lanes.splice(index, 1);
    this.#retired.add(lane);
    if (fault.outcome === Outcome.connectFailed) {
      this.#noNewLaneUntilMs = this.#deps.clock.nowMs() + SIBLING_COOLDOWN_MS;
    }
  }

  laneClosed(lane: Lane): void {
    this.#retired.delete(lane);
    for (const [run, owner] of this.#partial) if (owner === lane) this.#partial.delete(run);
  }

  hasConnectedSibling(lane: Lane): boolean {
    return this.#lanes.some((other) => other !== lane && other.connected);
  }

  /** The lane that should take the next slices; it may have no room for them. */
  #laneFor(run: SliceRun): Lane | undefined {
    const before = this.#partial.size === 0 ? undefined : this.#partial.get(run);
    if (before?.owns(run) === true) return this.#retired.has(before) ? undefined : before;
    let best: Lane | undefined;
    for (const lane of this.#lanes) {
      if (best === undefined || isLessBusy(lane, best)) best = lane;
    }
    if (best !== undefined && (best.outstanding === 0 || !this.#mayOpenLane())) return best;
    return this.#lanes.length < this.#deps.settings.lanesPerPeer ? this.#openLane() : best;
  }

  #mayOpenLane(): boolean {
    if (this.#lanes.length >= this.#deps.settings.lanesPerPeer) return false;
    return (
      this.#noNewLaneUntilMs === Number.NEGATIVE_INFINITY ||
      this.#deps.clock.nowMs() >= this.#noNewLaneUntilMs
    );
  }

  #openLane(): Lane {
    const lane = new Lane({ ...this.#deps, version: 2, owner: this });
    this.#lanes.push(lane);
    return lane;
  }
}

function isLessBusy(lane: Lane, other: Lane): boolean {
  return (
    lane.outstandingBytes < other.outstandingBytes ||
    (lane.outstandingBytes === other.outstandingBytes && lane.outstanding < other.outstanding)
  );
}
