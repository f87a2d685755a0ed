import { randomBytes } from 'node:crypto';
import {
  Outcome,
  RailScheduler,
  Slice,
  type Aftermath,
  type EngineError,
  type Peer,
  type Route,
  type SliceRun,
  type Transport,
} from '@transfer-engine/core/transport';
import type { Fault } from '../session/fault.ts';
import { CHECKED_READ_MAX_BYTES, TOKEN_BYTES } from '../wire/extended-frames.ts';
import { Lane, type LaneOwner } from './lane.ts';
import type { RouteDeps } from './route-deps.ts';

/** After a failed attempt, further lanes are not tried for this long while one is connected. */
const SIBLING_COOLDOWN_MS = 1000;

/**
 * The way to a peer of framing v2 or x1: a few persistent lanes, made when there is work for them.
 *
 * Each lane is a rail of the scheduler as long as it owns slices, so that a slow one gets less. The
 * rail is given on when the lane has closed.
 */
export class LaneRoute implements Route, LaneOwner {
  readonly transport: Transport;
  readonly peer: Peer;
  readonly sliceBytes: number;
  readonly writeDurability = 'applied';
  readonly #deps: RouteDeps;
  readonly #slice = new Slice();
  /** Lanes that take work. */
  readonly #lanes: Lane[] = [];
  readonly #scheduler = new RailScheduler();
  /** By rail. */
  readonly #laneOfRail: (Lane | undefined)[] = [];
  readonly #railOfLane = new Map<Lane, number>();
  /** Of the slice that a lane is picked for. */
  #pickBytes = 0;
  /** A lane of this route was answered in framing x1. */
  #knowsExtended = false;
  /** The peer does not speak framing x1 after all. */
  #fellBack = false;
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
    const { sliceBytes } = deps.settings;
    this.sliceBytes =
      deps.extended === undefined ? sliceBytes : Math.min(sliceBytes, CHECKED_READ_MAX_BYTES);
  }

  get checksums(): boolean {
    return this.#deps.extended !== undefined && !this.#fellBack;
  }

  get knowsExtended(): boolean {
    return this.#knowsExtended;
  }

  /** Bytes that lanes own, as the scheduler counts them; 0 when nothing is in flight. */
  get inFlightBytes(): number {
    let bytes = 0;
    for (let rail = 0; rail < this.#scheduler.size; rail += 1) {
      bytes += this.#scheduler.inFlightBytes(rail);
    }
    return bytes;
  }

  post(run: SliceRun): number {
    const slice = this.#slice;
    if (this.#closed || !run.peek(slice)) return 0;
    const lane = this.#laneFor(run, slice.length);
    let count = 0;
    let bytes = 0;
    let more = true;
    while (more && lane?.fits(slice.length) === true) {
      lane.accept(run, slice);
      bytes += slice.length;
      run.take();
      count += 1;
      more = run.peek(slice);
    }
    if (lane !== undefined) this.#scheduler.posted(this.#rail(lane), bytes);
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

  laneFinished(lane: Lane, bytes: number, serviceMs: number | undefined): void {
    this.#scheduler.finished(this.#rail(lane), bytes, serviceMs);
  }

  laneExtended(): void {
    this.#knowsExtended = true;
  }

  laneFellBack(): void {
    this.#fellBack = true;
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
    this.#laneOfRail[this.#rail(lane)] = undefined;
    this.#railOfLane.delete(lane);
    for (const [run, owner] of this.#partial) if (owner === lane) this.#partial.delete(run);
  }

  hasConnectedSibling(lane: Lane): boolean {
    return this.#lanes.some((other) => other !== lane && other.connected);
  }

  /** The lane that should take the next slices; it may have no room for them. */
  #laneFor(run: SliceRun, bytes: number): Lane | undefined {
    const before = this.#partial.size === 0 ? undefined : this.#partial.get(run);
    if (before?.owns(run) === true) return this.#retired.has(before) ? undefined : before;
    this.#pickBytes = bytes;
    const rail = this.#scheduler.pick(bytes, this.#accepts);
    const best = rail < 0 ? undefined : this.#laneOfRail[rail];
    if (best?.outstanding === 0) return best;
    if (this.#lanes.length === 0 || this.#mayOpenLane()) return this.#openLane();
    return best;
  }

  readonly #accepts = (rail: number): boolean => {
    const lane = this.#laneOfRail[rail];
    return lane?.retired === false && lane.fits(this.#pickBytes);
  };

  #rail(lane: Lane): number {
    return this.#railOfLane.get(lane) as number;
  }

  #mayOpenLane(): boolean {
    if (this.#lanes.length >= this.#deps.settings.lanesPerPeer) return false;
    return (
      this.#noNewLaneUntilMs === Number.NEGATIVE_INFINITY ||
      this.#deps.clock.nowMs() >= this.#noNewLaneUntilMs
    );
  }

  #openLane(): Lane {
    const { extended } = this.#deps;
    const lane = new Lane({
      ...this.#deps,
      version: 2,
      extended:
        extended === undefined || this.#fellBack
          ? undefined
          : { ...extended, token: randomBytes(TOKEN_BYTES) },
      owner: this,
    });
    let rail = this.#laneOfRail.indexOf(undefined);
    if (rail < 0) rail = this.#scheduler.add();
    this.#laneOfRail[rail] = lane;
    this.#railOfLane.set(lane, rail);
    this.#lanes.push(lane);
    return lane;
  }
}
