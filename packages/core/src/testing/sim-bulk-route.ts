import type { CancelTimer } from '../base/clock.ts';
import { EngineError } from '../base/errors.ts';
import { Outcome, type Aftermath } from '../transport/outcome.ts';
import { Slice, type SliceRun } from '../transport/slice.ts';
import type { Peer } from '../transport/transport.ts';
import { copyBytes } from './copy-bytes.ts';
import type { SimMember, SimNetwork } from './sim-network.ts';
import type { SimTransport, SimTransportRoute } from './sim-transport.ts';
import { SliceQueue } from '../transport/slice-queue.ts';

const UNTOUCHED: Aftermath = { destination: 'untouched' };

/**
 * A simulated connection for worlds of many engines: one queue, one timer, nothing allocated by
 * slice. A slice is applied as a whole at the moment at which it ends, so what ends badly has left
 * its destination untouched.
 */
export class BulkRoute implements SimTransportRoute {
  readonly transport: SimTransport;
  readonly peer: Peer;
  readonly sliceBytes: number;
  readonly writeDurability = 'applied';
  readonly peerName: string;
  readonly #network: SimNetwork;
  readonly #self: string;
  readonly #slice = new Slice();
  #queue: SliceQueue;
  #queuedBytes = 0;
  /** When the oldest slice ends. */
  #headEndsMs = 0;
  #timer: CancelTimer | undefined;
  readonly #sweeps = new Set<CancelTimer>();
  #held = false;
  #starved = false;
  #closed = false;
  /** Endings that were not reported yet: all of one run, all the same. */
  #run: SliceRun | undefined;
  #count = 0;
  #outcome: Outcome = Outcome.ok;
  #error: EngineError | undefined;

  constructor(transport: SimTransport, peer: Peer) {
    this.transport = transport;
    this.peer = peer;
    this.#network = transport.network;
    this.sliceBytes = this.#network.options.sliceBytes;
    this.#self = transport.host.segmentName;
    this.peerName = peer.descriptor.name;
    this.#queue = new SliceQueue(this.#network.options.queueSlices);
  }

  get owned(): number {
    return this.#queue.length;
  }

  post(run: SliceRun): number {
    if (this.#closed || this.transport.dead) return 0;
    const slice = this.#slice;
    const { queueBytes } = this.#network.options;
    const wasEmpty = this.#queue.length === 0;
    let taken = 0;
    while (run.peek(slice)) {
      const full = this.#queue.length > 0 && this.#queuedBytes + slice.length > queueBytes;
      if (this.#queue.full || full) {
        this.#starved = true;
        break;
      }
      this.#queue.push(run, slice);
      this.#queuedBytes += slice.length;
      run.take();
      taken += 1;
    }
    if (wasEmpty && taken > 0) {
      const { latencyMs } = this.#network.options;
      this.#headEndsMs = this.#network.clock.nowMs() + this.#network.draw(latencyMs);
      this.#beginHead();
    }
    return taken;
  }

  cancel(run: SliceRun, graceMs: number): void {
    this.#queue.cancel(run);
    this.#after(0, () => this.#sweep(false));
    this.#after(graceMs, () => this.#sweep(true));
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#starved = false;
    this.#stop();
    while (this.#queue.length > 0) this.#end(Outcome.canceled);
    this.#flush();
    this.transport.forget(this);
    return Promise.resolve();
  }

  lose(): void {
    if (this.#queue.length > 0) this.#after(0, () => this.#failAll(Outcome.peerLost));
  }

  resume(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#headEndsMs = this.#network.clock.nowMs();
    this.#beginHead();
  }

  die(): void {
    this.#stop();
    this.#queue = new SliceQueue(this.#network.options.queueSlices);
    this.#queuedBytes = 0;
    this.#starved = false;
    this.#run = undefined;
    this.#count = 0;
  }

  #stop(): void {
    this.#held = false;
    this.#timer?.();
    this.#timer = undefined;
    for (const cancel of this.#sweeps) cancel();
    this.#sweeps.clear();
  }

  #after(delayMs: number, callback: () => void): void {
    const cancel = this.#network.clock.schedule(delayMs, () => {
      this.#sweeps.delete(cancel);
      callback();
    });
    this.#sweeps.add(cancel);
  }

  /** Plans the end of the oldest slice, which starts when the one before it ended. */
  #beginHead(): void {
    this.#timer?.();
    this.#timer = undefined;
    if (this.#queue.length === 0) return;
    const { clock, options } = this.#network;
    const slowness = this.#network.slownessOf(this.peerName);
    const bytes = this.#queue.canceled ? 0 : this.#queue.sliceLength;
    this.#headEndsMs += (bytes * slowness) / options.bytesPerMs;
    this.#timer = clock.schedule(this.#headEndsMs - clock.nowMs(), () => this.#work());
  }

  /** Ends every slice whose time has come. */
  #work(): void {
    this.#timer = undefined;
    const nowMs = this.#network.clock.nowMs();
    if (this.#network.partitioned(this.#self, this.peerName)) {
      this.#held = true;
      return;
    }
    const target = this.#network.find(this.peerName);
    if (target === undefined) {
      this.#failAll(Outcome.connectFailed);
      return;
    }
    do {
      const endedMs = this.#headEndsMs;
      this.#serve(target);
      this.#headEndsMs = endedMs;
      this.#beginHead();
    } while (this.#queue.length > 0 && this.#headEndsMs <= nowMs);
    this.#flush();
    this.#tellReady();
  }

  #serve(target: SimMember): void {
    const queue = this.#queue;
    if (queue.canceled) {
      this.#end(Outcome.canceled);
      return;
    }
    const { address, sliceLength: length, isWrite } = queue;
    const region =
      address >= 0
        ? target.host.registry.resolveRemote(address, length, isWrite ? 'write' : 'read')
        : undefined;
    if (region === undefined || !target.serves(region)) {
      const what = `${isWrite ? 'write' : 'read'} ${length} bytes at ${queue.exactAddress}`;
      const message = `${this.peerName} refused to ${what}`;
      this.#end(Outcome.rejected, new EngineError('ERR_TE_ADDRESS_REJECTED', message));
      return;
    }
    const at = address - region.address;
    const { store, offset } = queue;
    if (this.#network.options.bulk === 'tags') {
      if (isWrite) this.#network.tags.copy(store, offset, region.store, at, length);
      else this.#network.tags.copy(region.store, at, store, offset, length);
    } else {
      const copy = isWrite
        ? copyBytes(store, offset, region.store, at, length)
        : copyBytes(region.store, at, store, offset, length);
      if (copy !== undefined) throw new Error('the simulation needs stores that copy at once');
    }
    this.#end(Outcome.ok);
  }

  /** Nobody is there any more: the oldest slice takes the blame, the rest is replayed. */
  #failAll(outcome: Outcome): void {
    this.#stop();
    const code = outcome === Outcome.peerLost ? 'ERR_TE_PEER_LOST' : 'ERR_TE_CONNECT_FAILED';
    const error = new EngineError(code, `${this.peerName} is gone; is it running?`, {
      details: { peer: this.peerName },
    });
    for (let first = true; this.#queue.length > 0; first = false) {
      if (this.#queue.canceled) this.#end(Outcome.canceled);
      else if (first || outcome === Outcome.connectFailed) this.#end(outcome, error);
      else this.#end(Outcome.replay);
    }
    this.#flush();
    this.#tellReady();
  }

  /** Ends cancelled slices: those that were not started, or all of them. */
  #sweep(all: boolean): void {
    const slice = this.#slice;
    const waiting = this.#queue.length;
    if (waiting === 0) return;
    // What is being served ends first, and the slices of its run behind it.
    const served = all ? undefined : this.#queue.run;
    let headEnded = false;
    for (let index = 0; index < waiting; index += 1) {
      const { run, canceled } = this.#queue;
      if (canceled && run !== served) {
        if (index === 0) headEnded = true;
        this.#end(Outcome.canceled);
        continue;
      }
      this.#queue.describe(slice);
      this.#queue.shift();
      this.#queue.push(run, slice);
      if (canceled) this.#queue.cancelLast();
    }
    this.#flush();
    if (headEnded && !this.#held) {
      this.#headEndsMs = this.#network.clock.nowMs();
      this.#beginHead();
    }
    this.#tellReady();
  }

  /** Ends the oldest slice; reports what came before it if that ended differently. */
  #end(outcome: Outcome, error?: EngineError): void {
    const { run } = this.#queue;
    this.#queuedBytes -= this.#queue.sliceLength;
    this.#queue.shift();
    if (run !== this.#run || outcome !== this.#outcome || error !== this.#error) {
      this.#flush();
      this.#run = run;
      this.#outcome = outcome;
      this.#error = error;
    }
    this.#count += 1;
  }

  #flush(): void {
    const run = this.#run;
    const count = this.#count;
    if (run === undefined || count === 0) return;
    this.#run = undefined;
    this.#count = 0;
    const outcome = this.#outcome;
    const { transport } = this;
    transport.count(count);
    this.#network.note('complete', this.#self, this.peerName, count, outcome);
    if (outcome === Outcome.ok) transport.host.sink.complete(run, count, outcome);
    else transport.host.sink.complete(run, count, outcome, this.#error, UNTOUCHED);
  }

  #tellReady(): void {
    if (!this.#starved || this.#queue.full) return;
    this.#starved = false;
    this.transport.host.sink.ready(this);
  }
}
