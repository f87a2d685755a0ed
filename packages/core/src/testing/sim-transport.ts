import { invariant } from '../base/invariant.ts';
import type { RegisteredRegion } from '../memory/registered-region.ts';
import type { SegmentDraft } from '../segment/segment-descriptor.ts';
import { Slice, type SliceRun } from '../transport/slice.ts';
import type {
  Peer,
  Route,
  Transport,
  TransportFactory,
  TransportHost,
} from '../transport/transport.ts';
import { BulkRoute } from './sim-bulk-route.ts';
import { SimItem, SimLane, type SimEnding, type SimLaneOwner } from './sim-lane.ts';
import type { SimMember, SimNetwork } from './sim-network.ts';

export interface SimTransportOptions {
  /** Name in documents and options. Default "sim". */
  readonly name?: string;
}

/** A transport over a simulated network; it waits for nothing but the network's clock. */
export function simTransport(
  network: SimNetwork,
  options: SimTransportOptions = {},
): TransportFactory {
  const name = options.name ?? 'sim';
  return { name, create: (host) => new SimTransport(name, network, host) };
}

export class SimTransport implements Transport, SimMember {
  readonly name: string;
  readonly capabilities = { needsRegisteredMemory: false };
  readonly host: TransportHost;
  readonly network: SimNetwork;
  readonly #routes = new Set<SimTransportRoute>();
  readonly #detached = new WeakSet<RegisteredRegion>();
  #closed = false;
  #dead = false;
  #slices = 0;

  constructor(name: string, network: SimNetwork, host: TransportHost) {
    this.name = name;
    this.network = network;
    this.host = host;
  }

  get dead(): boolean {
    return this.#dead;
  }

  start(): Promise<void> {
    this.network.join(this.host.segmentName, this);
    return Promise.resolve();
  }

  describe(draft: SegmentDraft): void {
    draft.protocols.push(this.name);
    draft.capabilities.push(this.name);
  }

  attach(regions: readonly RegisteredRegion[]): Promise<void> {
    for (const region of regions) this.#detached.delete(region);
    return Promise.resolve();
  }

  detach(regions: readonly RegisteredRegion[]): Promise<void> {
    for (const region of regions) this.#detached.add(region);
    return Promise.resolve();
  }

  serves(region: RegisteredRegion): boolean {
    return !this.#closed && !this.#dead && region.live && !this.#detached.has(region);
  }

  reach(peer: Peer): Route | undefined {
    const { protocols, extras } = peer.descriptor;
    const known = protocols.includes(this.name) || extras?.capabilities.includes(this.name);
    if (this.#closed || known !== true) return undefined;
    const bulk = this.network.options.bulk !== 'off';
    const route = bulk ? new BulkRoute(this, peer) : new SimRoute(this, peer);
    this.#routes.add(route);
    return route;
  }

  stats(): Readonly<Record<string, number>> {
    let owned = 0;
    for (const route of this.#routes) owned += route.owned;
    return { routes: this.#routes.size, slices: this.#slices, owned };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.network.leave(this.host.segmentName, this);
    await Promise.all([...this.#routes].map((route) => route.close()));
  }

  die(): void {
    this.#dead = true;
    for (const route of this.#routes) route.die();
  }

  revive(): void {
    this.#dead = false;
  }

  peerGone(name: string, surelyQuiescent: boolean): void {
    for (const route of this.#routes) if (route.peerName === name) route.lose(surelyQuiescent);
  }

  peerBack(name: string): void {
    for (const route of this.#routes) if (route.peerName === name) route.resume();
  }

  count(slices: number): void {
    this.#slices += slices;
  }

  forget(route: SimTransportRoute): void {
    this.#routes.delete(route);
  }
}

/** What the transport asks of its routes, of whatever kind. */
export interface SimTransportRoute extends Route {
  readonly peerName: string;
  /** Slices that were taken and have no outcome. */
  readonly owned: number;
  /** The peer's end of the connections is gone. */
  lose(surelyQuiescent: boolean): void;
  /** A partition has healed. */
  resume(): void;
  /** Our own process is gone: everything is forgotten without a word. */
  die(): void;
}

class SimRoute implements SimTransportRoute, SimLaneOwner {
  readonly transport: SimTransport;
  readonly peer: Peer;
  readonly network: SimNetwork;
  readonly sliceBytes: number;
  readonly writeDurability = 'applied';
  readonly self: string;
  readonly peerName: string;
  readonly #slice = new Slice();
  #lanes: SimLane[];
  /** The lane that a run is on while it has slices there: it must not overtake itself. */
  readonly #places = new Map<SliceRun, { lane: SimLane; owned: number }>();
  #owned = 0;
  #ownedBytes = 0;
  /** A `post` took less than it was offered, and `ready` is due for it. */
  #owesReady = false;
  #readyPlanned = false;
  #closed = false;

  constructor(transport: SimTransport, peer: Peer) {
    this.transport = transport;
    this.peer = peer;
    this.network = transport.network;
    this.sliceBytes = this.network.options.sliceBytes;
    this.self = transport.host.segmentName;
    this.peerName = peer.descriptor.name;
    this.#lanes = this.#makeLanes();
  }

  get owned(): number {
    return this.#owned;
  }

  post(run: SliceRun): number {
    if (this.#closed || this.transport.dead) return 0;
    const { options, faults } = this.network;
    let room = options.queueSlices - this.#owned;
    if (this.network.chance(faults.shortPost)) room = Math.min(room, this.network.below(4));
    const slice = this.#slice;
    let taken = 0;
    let lane: SimLane | undefined;
    while (run.peek(slice)) {
      const full = this.#owned > 0 && this.#ownedBytes + slice.length > options.queueBytes;
      if (taken >= room || full) {
        // One sign has to follow: an outcome will, when slices are on the way. Ready may come beside.
        if (this.#owned === 0 || this.network.chance(0.5)) this.#planReady();
        break;
      }
      lane ??= this.#laneFor(run);
      lane.push(new SimItem(run, slice));
      run.take();
      taken += 1;
      this.#owned += 1;
      this.#ownedBytes += slice.length;
    }
    if (lane !== undefined) this.#place(run, lane).owned += taken;
    return taken;
  }

  cancel(run: SliceRun, graceMs: number): void {
    this.#places.get(run)?.lane.cancel(run, graceMs);
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#owesReady = false;
    for (const lane of this.#lanes) lane.close();
    this.transport.forget(this);
    return Promise.resolve();
  }

  lose(surelyQuiescent: boolean): void {
    for (const lane of this.#lanes) lane.lose(surelyQuiescent);
  }

  resume(): void {
    for (const lane of this.#lanes) lane.resume();
  }

  die(): void {
    for (const lane of this.#lanes) lane.die();
    this.#lanes = this.#makeLanes();
    this.#places.clear();
    this.#owned = 0;
    this.#ownedBytes = 0;
    this.#owesReady = false;
  }

  report(endings: readonly SimEnding[]): void {
    let index = 0;
    while (index < endings.length) {
      const first = endings[index] as SimEnding;
      let count = 1;
      while (endsAlike(first, endings[index + count])) count += 1;
      for (let each = index; each < index + count; each += 1) {
        const { item } = endings[each] as SimEnding;
        this.#ownedBytes -= item.length;
        if (!item.late) this.network.ledger?.end(item);
      }
      index += count;
      this.#owned -= count;
      this.#leave(first.item.run, count);
      this.transport.count(count);
      this.network.note('complete', this.self, this.peerName, count, first.outcome);
      const { run } = first.item;
      this.transport.host.sink.complete(run, count, first.outcome, first.error, first.aftermath);
    }
  }

  #makeLanes(): SimLane[] {
    const count = this.network.options.lanesPerPeer;
    return Array.from({ length: count }, (_, index) => new SimLane(this, index));
  }

  #laneFor(run: SliceRun): SimLane {
    const place = this.#places.get(run);
    if (place !== undefined) return place.lane;
    return this.#lanes[this.network.below(this.#lanes.length)] as SimLane;
  }

  #place(run: SliceRun, lane: SimLane): { lane: SimLane; owned: number } {
    let place = this.#places.get(run);
    if (place === undefined) this.#places.set(run, (place = { lane, owned: 0 }));
    return place;
  }

  #leave(run: SliceRun, count: number): void {
    const place = this.#places.get(run);
    invariant(place !== undefined && place.owned >= count, 'a slice is owned until it ends');
    place.owned -= count;
    if (place.owned === 0) this.#places.delete(run);
  }

  #planReady(): void {
    this.#owesReady = true;
    if (this.#readyPlanned) return;
    this.#readyPlanned = true;
    this.network.clock.schedule(this.network.draw([0, 5]), () => {
      this.#readyPlanned = false;
      if (!this.#owesReady || this.transport.dead) return;
      this.#owesReady = false;
      this.network.note('ready', this.self, this.peerName);
      this.transport.host.sink.ready(this);
    });
  }
}

function endsAlike(first: SimEnding, other: SimEnding | undefined): boolean {
  return (
    other !== undefined &&
    other.item.run === first.item.run &&
    other.outcome === first.outcome &&
    other.error === first.error &&
    other.aftermath === first.aftermath
  );
}
