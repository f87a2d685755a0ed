import type { CancelTimer } from '../base/clock.ts';
import { EngineError } from '../base/errors.ts';
import { joinWords } from '../base/u64.ts';
import type { ByteStore } from '../memory/byte-store.ts';
import type { RegisteredRegion } from '../memory/registered-region.ts';
import { Outcome, type Aftermath } from '../transport/outcome.ts';
import { Opcode, type Slice, type SliceRun } from '../transport/slice.ts';
import { copyBytes } from './copy-bytes.ts';
import type { SimMember, SimNetwork } from './sim-network.ts';

/** A slice that a lane owns. */
export class SimItem {
  readonly run: SliceRun;
  readonly isWrite: boolean;
  readonly store: ByteStore;
  readonly offset: number;
  readonly length: number;
  /** NaN when it needs more than 53 bits. */
  readonly address: number;
  canceled = false;
  /** It has ended, and bytes of it are still on their way. */
  late = false;

  constructor(run: SliceRun, slice: Slice) {
    this.run = run;
    this.isWrite = slice.opcode === Opcode.write;
    this.store = slice.store as ByteStore;
    this.offset = slice.offset;
    this.length = slice.length;
    this.address = joinWords(slice.addressLow, slice.addressHigh);
  }
}

/** How a slice ended. */
export interface SimEnding {
  readonly item: SimItem;
  readonly outcome: Outcome;
  readonly error?: EngineError;
  readonly aftermath?: Aftermath;
}

/** What a lane needs of its route. */
export interface SimLaneOwner {
  readonly network: SimNetwork;
  readonly self: string;
  readonly peerName: string;
  /** Passes endings on, in their order. */
  report(endings: readonly SimEnding[]): void;
}

const UNTOUCHED: Aftermath = { destination: 'untouched' };

type Plan = 'ok' | 'rejected' | 'local-fault' | 'loss' | 'answer-loss' | 'protocol-error';

/** The slice that is being served. */
interface Service {
  readonly item: SimItem;
  readonly target: SimMember;
  /** Undefined when the slice will be refused, or fails on our side. */
  readonly region: RegisteredRegion | undefined;
  /** Bytes that are in the destination. */
  moved: number;
  /** Where the next steps end, in bytes. */
  readonly stops: number[];
  readonly plan: Plan;
  /** At which of the steps the plan strikes. */
  readonly strikesAt: number;
}

/**
 * One simulated connection: serves its slices one after the other, in order.
 *
 * Everything happens in callbacks of the clock; `push` and `cancel` only plan.
 */
export class SimLane {
  readonly #owner: SimLaneOwner;
  readonly #network: SimNetwork;
  readonly #id: string;
  #items: SimItem[] = [];
  /** Slices that went well and were not reported yet. */
  #done: SimItem[] = [];
  #service: Service | undefined;
  #connected = false;
  /** A step of the lane is planned; at most one is. */
  #step: CancelTimer | undefined;
  #statusLimit: CancelTimer | undefined;
  #reporting: CancelTimer | undefined;
  readonly #graces = new Set<CancelTimer>();
  /** A partition holds the lane; it goes on by itself when the partition heals. */
  #held = false;
  /** A connection attempt got no answer yet, because of a partition. */
  #knocking = false;
  #dead = false;

  constructor(owner: SimLaneOwner, index: number) {
    this.#owner = owner;
    this.#network = owner.network;
    this.#id = `${owner.self}>${owner.peerName}#${index}`;
  }

  get length(): number {
    return this.#items.length;
  }

  push(item: SimItem): void {
    this.#network.ledger?.begin(item);
    this.#items.push(item);
    this.#kick();
  }

  /** Plans the end of what was taken from a run so far. */
  cancel(run: SliceRun, graceMs: number): void {
    let found = false;
    for (const item of this.#items) {
      if (item.run !== run) continue;
      item.canceled = true;
      found = true;
    }
    if (!found) return;
    this.#network.note('cancel', this.#id);
    this.#after(0, () => this.#sweep());
    const served = this.#service?.item;
    if (served?.run !== run) return;
    this.#after(graceMs, () => {
      if (this.#service?.item === served) this.#giveUp(Outcome.canceled, 'ERR_TE_CANCELED');
    });
  }

  /** The other end is gone. */
  lose(surelyQuiescent: boolean): void {
    if (!this.#connected && this.#service === undefined) return;
    this.#after(this.#network.draw([0, 2]), () => {
      if (this.#connected) this.#giveUp(Outcome.peerLost, 'ERR_TE_PEER_LOST', surelyQuiescent);
    });
  }

  resume(): void {
    if (this.#knocking) {
      this.#knocking = false;
      this.#connect();
      return;
    }
    if (!this.#held) return;
    this.#held = false;
    this.#plan(this.#network.draw(this.#network.options.latencyMs), () => this.#advance());
  }

  /** Ends everything as `canceled`, now. */
  close(): void {
    const endings = this.#takeDone();
    const served = this.#service?.item;
    const aftermath = this.#endService();
    for (const item of this.#items) {
      const own = item === served ? aftermath : UNTOUCHED;
      endings.push({ item, outcome: Outcome.canceled, aftermath: own });
    }
    this.#items = [];
    this.#stop();
    this.#owner.report(endings);
  }

  /** Forgets everything without a word. */
  die(): void {
    this.#dead = true;
    for (const item of this.#done) this.#network.ledger?.end(item);
    for (const item of this.#items) this.#network.ledger?.end(item);
    this.#items = [];
    this.#done = [];
    this.#service = undefined;
    this.#stop();
  }

  #stop(): void {
    this.#connected = false;
    this.#held = false;
    this.#knocking = false;
    this.#clearSteps();
    this.#reporting?.();
    this.#reporting = undefined;
    for (const cancel of this.#graces) cancel();
    this.#graces.clear();
  }

  #clearSteps(): void {
    this.#step?.();
    this.#step = undefined;
    this.#statusLimit?.();
    this.#statusLimit = undefined;
  }

  /** Plans the one next step of the lane. */
  #plan(delayMs: number, step: () => void): void {
    this.#step?.();
    this.#step = this.#network.clock.schedule(delayMs, () => {
      this.#step = undefined;
      step();
    });
  }

  /** Plans something beside the steps. */
  #after(delayMs: number, callback: () => void): void {
    const cancel = this.#network.clock.schedule(delayMs, () => {
      this.#graces.delete(cancel);
      callback();
    });
    this.#graces.add(cancel);
  }

  #kick(): void {
    if (this.#dead || this.#items.length === 0) return;
    if (this.#step !== undefined || this.#service !== undefined || this.#held) return;
    if (this.#connected) this.#plan(0, () => this.#serve());
    else this.#connect();
  }

  #connect(): void {
    const { options, faults } = this.#network;
    const { self, peerName } = this.#owner;
    if (this.#network.partitioned(self, peerName)) {
      this.#knocking = true;
      this.#plan(options.connectTimeoutMs, () => this.#connectEnded(false));
      return;
    }
    const fails = this.#network.chance(faults.connectFail);
    this.#plan(this.#network.draw(options.connectMs), () => this.#connectEnded(!fails));
  }

  #connectEnded(granted: boolean): void {
    const { peerName } = this.#owner;
    this.#knocking = false;
    if (granted && this.#network.find(peerName) !== undefined) {
      this.#network.note('connected', this.#id);
      this.#connected = true;
      this.#kick();
      return;
    }
    this.#network.note('connect-failed', this.#id, this.#items.length);
    const error = new EngineError(
      'ERR_TE_CONNECT_FAILED',
      `no connection to ${peerName} could be made; is it running?`,
      { details: { peer: peerName } },
    );
    const items = this.#items;
    this.#items = [];
    this.#owner.report([
      ...this.#takeDone(),
      ...items.map((item) =>
        item.canceled
          ? { item, outcome: Outcome.canceled, aftermath: UNTOUCHED }
          : { item, outcome: Outcome.connectFailed, error, aftermath: UNTOUCHED },
      ),
    ]);
    this.#kick();
  }

  /** Starts the oldest slice. */
  #serve(): void {
    const item = this.#items[0];
    if (item === undefined) return;
    if (item.canceled) {
      this.#sweep();
      return;
    }
    const { peerName } = this.#owner;
    const target = this.#network.find(peerName);
    if (target === undefined) {
      this.#giveUp(Outcome.peerLost, 'ERR_TE_PEER_LOST', true);
      return;
    }
    const { faults, options } = this.#network;
    this.#statusLimit = this.#network.clock.schedule(options.statusTimeoutMs, () =>
      this.#giveUp(Outcome.timeout, 'ERR_TE_TIMEOUT'),
    );
    const region =
      item.address >= 0
        ? target.host.registry.resolveRemote(
            item.address,
            item.length,
            item.isWrite ? 'write' : 'read',
          )
        : undefined;
    let delayMs = this.#network.draw(options.latencyMs) * this.#network.slownessOf(peerName);
    if (this.#network.chance(faults.stall)) delayMs += this.#network.draw(options.stallMs);
    const serves = region !== undefined && target.serves(region);
    this.#service = this.#planService(item, target, serves ? region : undefined);
    this.#plan(delayMs, () => this.#advance());
  }

  #planService(item: SimItem, target: SimMember, region: RegisteredRegion | undefined): Service {
    const steps = Math.min(item.length, 1 + this.#network.below(4));
    const stops = Array.from({ length: steps - 1 }, () => this.#network.below(item.length + 1));
    stops.push(item.length);
    stops.sort((a, b) => a - b);
    const plan = region === undefined ? 'rejected' : this.#drawPlan();
    return { item, target, region, moved: 0, stops, plan, strikesAt: this.#network.below(steps) };
  }

  #drawPlan(): Plan {
    const { faults } = this.#network;
    if (this.#network.chance(faults.reject)) return 'rejected';
    if (this.#network.chance(faults.localFault)) return 'local-fault';
    if (this.#network.chance(faults.loss)) return 'loss';
    if (this.#network.chance(faults.answerLoss)) return 'answer-loss';
    if (this.#network.chance(faults.protocolError)) return 'protocol-error';
    return 'ok';
  }

  /** Ends a slice that the peer refused, or that our own side could not handle. */
  #endOne(item: SimItem, refused: boolean): void {
    const { peerName } = this.#owner;
    this.#clearSteps();
    this.#service = undefined;
    this.#items.shift();
    this.#network.note(refused ? 'rejected' : 'local-fault', this.#id, item.length);
    const what = `${item.isWrite ? 'write' : 'read'} ${item.length} bytes at ${item.address}`;
    const ending: SimEnding = refused
      ? {
          item,
          outcome: Outcome.rejected,
          aftermath: UNTOUCHED,
          error: new EngineError('ERR_TE_ADDRESS_REJECTED', `${peerName} refused to ${what}`),
        }
      : {
          item,
          outcome: Outcome.localFault,
          aftermath: UNTOUCHED,
          error: new EngineError('ERR_TE_MEMORY', `a simulated fault of ours: could not ${what}`),
        };
    const rest =
      refused && this.#network.chance(this.#network.faults.closeAfterReject)
        ? this.#abandonQueue()
        : [];
    this.#owner.report([...this.#takeDone(), ending, ...rest]);
    this.#kick();
  }

  /** Moves bytes up to the next stop. */
  #advance(): void {
    const service = this.#service;
    if (service === undefined) return;
    const { self, peerName } = this.#owner;
    if (this.#network.partitioned(self, peerName)) {
      this.#held = true;
      return;
    }
    const { region, plan } = service;
    const alive = this.#network.find(peerName) === service.target;
    if (!alive || (region !== undefined && !service.target.serves(region))) {
      // The process is gone, or it withdrew the region and closed the connection that used it.
      this.#giveUp(Outcome.peerLost, 'ERR_TE_PEER_LOST', true);
      return;
    }
    if (region === undefined || plan === 'rejected' || plan === 'local-fault') {
      this.#endOne(service.item, plan !== 'local-fault');
      return;
    }
    const step = service.stops.length;
    const stop = service.stops.shift() as number;
    if (plan === 'loss' && step - 1 <= service.strikesAt) {
      this.#giveUp(Outcome.peerLost, 'ERR_TE_PEER_LOST');
      return;
    }
    this.#move(service, region, stop - service.moved);
    if (service.stops.length > 0) {
      const bytes = (service.stops[0] as number) - service.moved;
      const slowness = this.#network.slownessOf(peerName);
      this.#plan((bytes * slowness) / this.#network.options.bytesPerMs, () => this.#advance());
      return;
    }
    if (plan === 'answer-loss') this.#giveUp(Outcome.peerLost, 'ERR_TE_PEER_LOST');
    else if (plan === 'protocol-error') {
      this.#giveUp(Outcome.protocolError, 'ERR_TE_PROTOCOL');
    } else this.#succeed();
  }

  #move(service: Service, region: RegisteredRegion, length: number): void {
    if (length === 0) return;
    const { item, moved } = service;
    const remote = item.address - region.address + moved;
    const local = item.offset + moved;
    const copy = item.isWrite
      ? copyBytes(item.store, local, region.store, remote, length)
      : copyBytes(region.store, remote, item.store, local, length);
    if (copy !== undefined) throw new Error('the simulation needs stores that copy at once');
    service.moved += length;
  }

  #succeed(): void {
    this.#clearSteps();
    this.#service = undefined;
    this.#done.push(this.#items.shift() as SimItem);
    this.#reporting ??= this.#network.clock.schedule(
      this.#network.draw(this.#network.options.reportDelayMs),
      () => {
        this.#reporting = undefined;
        this.#owner.report(this.#takeDone());
      },
    );
    this.#kick();
  }

  /** The connection ends. The slice that is being served takes the blame, the rest is replayed. */
  #giveUp(
    outcome: Outcome,
    code: 'ERR_TE_PEER_LOST' | 'ERR_TE_TIMEOUT' | 'ERR_TE_PROTOCOL' | 'ERR_TE_CANCELED',
    surelyQuiescent = false,
  ): void {
    const endings = this.#takeDone();
    const service = this.#service;
    this.#network.note('give-up', this.#id, code, service?.moved ?? -1);
    if (service !== undefined) {
      const { item, moved } = service;
      const aftermath = this.#endService(surelyQuiescent);
      this.#items.shift();
      const error = new EngineError(
        code,
        `the connection to ${this.#owner.peerName} ended after ${moved} of ${item.length} bytes`,
        { details: { peer: this.#owner.peerName, bytesDone: moved } },
      );
      endings.push(
        outcome === Outcome.canceled
          ? { item, outcome, aftermath }
          : { item, outcome, error, aftermath },
      );
    }
    this.#clearSteps();
    this.#connected = false;
    this.#held = false;
    endings.push(...this.#abandonQueue());
    this.#owner.report(endings);
    this.#kick();
  }

  /** Empties the queue of a connection that is over. */
  #abandonQueue(): SimEnding[] {
    this.#connected = false;
    const items = this.#items;
    this.#items = [];
    return items.map((item) => ({
      item,
      outcome: item.canceled ? Outcome.canceled : Outcome.replay,
      aftermath: UNTOUCHED,
    }));
  }

  /**
   * Ends the service in the middle. Bytes of a write may be on their way: they are taken from the
   * source now, and land later. Returns what is known about the destination.
   */
  #endService(surelyQuiescent = false): Aftermath {
    const service = this.#service;
    this.#service = undefined;
    if (service === undefined) return UNTOUCHED;
    const { item, target, region, moved } = service;
    // Sometimes the wire tells how far it came, and sometimes it does not.
    const told = this.#network.chance(0.5) ? { appliedBytes: moved } : {};
    const quiescent: Aftermath = moved === 0 ? UNTOUCHED : { destination: 'quiescent', ...told };
    if (surelyQuiescent || region === undefined || !item.isWrite) return quiescent;
    if (moved === item.length || service.plan === 'rejected' || service.plan === 'local-fault') {
      return quiescent;
    }
    if (!this.#network.chance(this.#network.faults.lateBytes)) return quiescent;
    const length = 1 + this.#network.below(item.length - moved);
    const late = Buffer.allocUnsafe(length);
    const reading = item.store.readInto(late, item.offset + moved);
    if (reading !== undefined) throw new Error('the simulation needs stores that copy at once');
    const { peerName } = this.#owner;
    item.late = true;
    this.#network.clock.schedule(this.#network.draw(this.#network.options.lateMs), () => {
      this.#network.ledger?.end(item);
      if (this.#network.find(peerName) !== target || !target.serves(region)) return;
      this.#network.note('late-bytes', this.#id, length);
      const writing = region.store.writeFrom(late, item.address - region.address + moved);
      if (writing !== undefined) throw new Error('the simulation needs stores that copy at once');
    });
    return { destination: 'unknown', ...told };
  }

  /** Ends cancelled slices that did not start, unless an older one of their run is still there. */
  #sweep(): void {
    const served = this.#step !== undefined || this.#service !== undefined || this.#held;
    const first = served && this.#connected ? this.#items[0] : undefined;
    const ended: SimItem[] = [];
    this.#items = this.#items.filter((item) => {
      const ends = item.canceled && item !== first && item.run !== first?.run;
      if (ends) ended.push(item);
      return !ends;
    });
    if (ended.length > 0) {
      this.#network.note('swept', this.#id, ended.length);
      const endings = ended.map((item) => ({
        item,
        outcome: Outcome.canceled,
        aftermath: UNTOUCHED,
      }));
      this.#owner.report([...this.#takeDone(), ...endings]);
    }
    this.#kick();
  }

  #takeDone(): SimEnding[] {
    this.#reporting?.();
    this.#reporting = undefined;
    const done = this.#done;
    this.#done = [];
    return done.map((item) => ({ item, outcome: Outcome.ok }));
  }
}
