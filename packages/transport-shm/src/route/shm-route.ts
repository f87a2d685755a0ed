import {
  EngineError,
  Outcome,
  Slice,
  SliceQueue,
  joinWords,
  type Aftermath,
  type CancelTimer,
  type Peer,
  type Route,
  type SliceRun,
  type Transport,
  type TransportHost,
} from '@transfer-engine/core/transport';
import type { OwnControl } from '../control/own-control.ts';
import { PeerControl, type ControlPlace } from '../control/peer-control.ts';
import type { ShmCounters } from '../counters.ts';
import { copyBytes } from '../memory/copy-bytes.ts';
import type { ProcessIdentity } from '../objects/process-identity.ts';
import type { ObjectAccess, PeerObject } from './peer-object.ts';
import { PeerObjects } from './peer-objects.ts';

/** Bytes copied in one turn of the event loop: 0.2 to 0.4 ms. */
const TURN_BYTES = 4 * 1024 * 1024;
/** Slices served in one turn. */
const TURN_SLICES = 2048;
/** How long turns follow each other before the event loop gets its own, in milliseconds. */
const TURN_MS = 2;
/** A refusal makes an error with its stack, which takes as long as this many slices. */
const REJECTION_COST = 64;
/** Longest slice by file I/O: two jobs at a time. */
const FILE_SLICE_BYTES = 8 * 1024 * 1024;
/** Slices taken at once while the peer has not been reached. */
const FIRST_SLICES = 64;
/** How long other routes are preferred after the peer could not be reached, in milliseconds. */
const AVOID_MS = 5_000;
/** Wait for a peer that is in the middle of changing what it offers, in milliseconds. */
const CHANGING_MS = 1;

const UNTOUCHED: Aftermath = { destination: 'untouched' };
const QUIESCENT: Aftermath = { destination: 'quiescent' };

export interface ShmRouteDeps {
  readonly transport: Transport;
  readonly host: TransportHost;
  readonly own: OwnControl;
  readonly identity: ProcessIdentity;
  readonly access: ObjectAccess;
  readonly queueSlices: number;
  readonly counters: ShmCounters;
  readonly onClosed: (route: ShmRoute) => void;
}

/**
 * Copies between local memory and objects of a peer on the same host.
 *
 * The first slice opens the peer's control object, which proves that the two share memory. Each
 * turn begins with a look at it: is the peer alive, and does it still offer what it did? And it
 * ends with another one, before anything is reported as done.
 */
export class ShmRoute implements Route {
  readonly transport: Transport;
  readonly sliceBytes: number;
  readonly writeDurability = 'applied';
  #peer: Peer;
  readonly #place: ControlPlace;
  readonly #deps: ShmRouteDeps;
  readonly #queue: SliceQueue;
  readonly #slice = new Slice();
  readonly #turn = () => this.#work();
  readonly #objects: PeerObjects;
  #control: PeerControl | undefined;
  #avoidUntilMs = 0;
  #turnNumber = 0;
  #yieldedAtMs = Number.NEGATIVE_INFINITY;
  /** A turn is planned, or waits for an asynchronous copy. */
  #busy = false;
  /** The last `post` took less than it was offered. */
  #starved = false;
  #closed = false;
  #closing: Promise<void> | undefined;
  #onDrained: (() => void) | undefined;
  #cancelPause: CancelTimer | undefined;
  #turnSlices = TURN_SLICES;
  #turnBytes = TURN_BYTES;
  /** Bytes of the oldest slice that were copied, and whether any ever were. */
  #done = 0;
  #touched = false;
  /** Outcomes that were not reported yet: all of one run, all the same. */
  #run: SliceRun | undefined;
  #count = 0;
  #outcome: Outcome = Outcome.ok;
  #error: EngineError | undefined;
  #aftermath: Aftermath | undefined;

  constructor(deps: ShmRouteDeps, peer: Peer, place: ControlPlace) {
    this.#deps = deps;
    this.transport = deps.transport;
    this.#peer = peer;
    this.#place = place;
    this.#queue = new SliceQueue(deps.queueSlices);
    this.#objects = new PeerObjects(deps.access);
    this.sliceBytes = deps.access.native === undefined ? FILE_SLICE_BYTES : TURN_BYTES;
  }

  get peer(): Peer {
    return this.#peer;
  }

  update(peer: Peer): void {
    this.#peer = peer;
  }

  /** Plain memory of the peer, which is in no object, has to go another way. */
  reaches(slice: Slice): boolean {
    if (this.#avoidUntilMs > 0 && this.#deps.host.clock.nowMs() < this.#avoidUntilMs) return false;
    const address = joinWords(slice.addressLow, slice.addressHigh);
    const control = this.#control;
    if (control === undefined) return this.#isDescribed(address, slice.length);
    if (control.table.find(address, slice.length) !== undefined) return true;
    return control.changed && control.latest().find(address, slice.length) !== undefined;
  }

  /** Whether the document says that the range lies in an object. */
  #isDescribed(address: number, length: number): boolean {
    return this.#peer.descriptor.buffers.some((buffer) => {
      const start = Number(buffer.address);
      const inside = address >= start && length <= buffer.length - (address - start);
      return inside && buffer.extras?.['shm'] !== undefined;
    });
  }

  post(run: SliceRun): number {
    if (this.#closed) return 0;
    const slice = this.#slice;
    let taken = 0;
    while (run.peek(slice)) {
      // Before anything is known of the peer, only a few slices may turn out to need another way.
      if (this.#queue.full || (this.#control === undefined && this.#queue.length >= FIRST_SLICES)) {
        this.#starved = true;
        break;
      }
      this.#queue.push(run, slice);
      run.take();
      taken += 1;
    }
    if (taken > 0) this.#wake();
    return taken;
  }

  cancel(run: SliceRun): void {
    this.#queue.cancel(run);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#closed = true;
    this.#starved = false;
    if (this.#cancelPause !== undefined) {
      this.#cancelPause();
      this.#cancelPause = undefined;
      queueMicrotask(this.#turn);
    }
    if (this.#busy) {
      await new Promise<void>((resolve) => {
        this.#onDrained = resolve;
      });
    }
    this.#disconnect();
    this.#deps.onClosed(this);
  }

  /** Plans one turn for everything that is posted until then. */
  #wake(): void {
    if (this.#busy) return;
    this.#busy = true;
    this.#plan();
  }

  #plan(): void {
    const nowMs = this.#deps.host.clock.nowMs();
    // The time counts, too: who awaits one small transfer after the other spends most of it elsewhere.
    const isTime = nowMs - this.#yieldedAtMs >= TURN_MS;
    if (this.#turnSlices > 0 && this.#turnBytes > 0 && !isTime) {
      queueMicrotask(this.#turn);
      return;
    }
    this.#yieldedAtMs = nowMs;
    this.#turnSlices = TURN_SLICES;
    this.#turnBytes = TURN_BYTES;
    setImmediate(this.#turn);
  }

  #work(): void {
    this.#turnNumber += 1;
    if (this.#closed) this.#cancelAll();
    else {
      const control = this.#connect();
      if (control !== undefined) {
        const { own } = this.#deps;
        // First the announcement, then the look at what is offered: who withdraws memory does the
        // opposite, so one of the two sees the other.
        own.enter(control.tag);
        const next = this.#serveTurn(control);
        if (next === 'pause') this.#flush();
        const slot = next instanceof Promise ? own.hold(control.tag) : 0;
        own.leave();
        if (next instanceof Promise) {
          this.#waitFor(next, slot);
          return;
        }
        if (next === 'pause') {
          this.#pause();
          return;
        }
      }
    }
    this.#busy = false;
    if (this.#queue.length > 0) this.#wake();
    else this.#onDrained?.();
    if (this.#starved && !this.#queue.full) {
      this.#starved = false;
      this.#deps.host.sink.ready(this);
    }
  }

  /**
   * Serves slices until the queue or the turn is at its end.
   *
   * @returns a promise when a store needs time to copy, `pause` when the peer has to be waited for
   */
  #serveTurn(control: PeerControl): Promise<void> | 'pause' | undefined {
    if (control.changed) {
      if (!control.refresh()) return 'pause';
      this.#adopt(control);
    }
    const queue = this.#queue;
    let copy: Promise<void> | undefined;
    while (queue.length > 0 && this.#turnSlices > 0 && this.#turnBytes > 0) {
      this.#turnSlices -= 1;
      if (queue.canceled) this.#end(Outcome.canceled);
      else copy = this.#serve(control);
      if (copy !== undefined) break;
    }
    this.#flush();
    return copy;
  }

  /** Serves a piece of the oldest slice, or all of it. */
  #serve(control: PeerControl): Promise<void> | undefined {
    const queue = this.#queue;
    const { address, sliceLength: length, isWrite } = queue;
    const row = control.table.find(address, length);
    if (row === undefined || (isWrite && !row.writable)) {
      this.#deps.counters.rejected += 1;
      this.#turnSlices -= REJECTION_COST;
      this.#end(Outcome.rejected, this.#refused(length, isWrite));
      return undefined;
    }
    let object: PeerObject | undefined;
    try {
      object = this.#objects.get(row);
      if (object.checkedTurn !== this.#turnNumber) object.check();
      object.checkedTurn = this.#turnNumber;
      const done = this.#done;
      const left = length - done;
      const piece = this.#deps.access.native === undefined ? left : Math.min(left, this.#turnBytes);
      const remote = address - row.address + done;
      const local = queue.offset + done;
      this.#touched = true;
      const copy = isWrite
        ? copyBytes(queue.store, local, object.store, remote, piece)
        : copyBytes(object.store, remote, queue.store, local, piece);
      this.#turnBytes -= piece;
      this.#done = done + piece;
      if (copy !== undefined) return copy;
    } catch (error) {
      this.#fault(error, object);
      return undefined;
    }
    if (this.#done === length) this.#endOk(length);
    else this.#deps.host.sink.progress?.(queue.run);
    return undefined;
  }

  #waitFor(copy: Promise<void>, slot: number): void {
    const finish = (failure?: { readonly error: unknown }) => {
      if (failure !== undefined) this.#fault(failure.error, undefined);
      else if (this.#done === this.#queue.sliceLength) this.#endOk(this.#done);
      else this.#deps.host.sink.progress?.(this.#queue.run);
      this.#flush();
      this.#deps.own.letGo(slot);
      this.#plan();
    };
    copy.then(
      () => finish(),
      (error: unknown) => finish({ error }),
    );
  }

  /** The peer is in the middle of a change: short, unless it was stopped there. */
  #pause(): void {
    this.#cancelPause = this.#deps.host.clock.schedule(CHANGING_MS, () => {
      this.#cancelPause = undefined;
      this.#work();
    });
  }

  /** The peer's control object; undefined after everything in the queue was ended. */
  #connect(): PeerControl | undefined {
    const { host, identity, access } = this.#deps;
    const nowMs = host.clock.nowMs();
    try {
      this.#control ??= PeerControl.open({
        peer: this.#peer.descriptor.name,
        directory: access.directory,
        place: this.#place,
        own: identity,
        native: access.native,
      });
    } catch (error) {
      this.#lose(EngineError.from(error, 'ERR_TE_CONNECT_FAILED'), nowMs);
      return undefined;
    }
    const trouble = this.#control.trouble(nowMs);
    if (trouble === undefined) return this.#control;
    this.#lose(trouble, nowMs);
    return undefined;
  }

  /**
   * Ends everything. A peer that was there is asked again by its oldest slice only; the others may
   * go another way.
   */
  #lose(error: EngineError, nowMs: number): void {
    this.#deps.counters.failures += 1;
    this.#avoidUntilMs = nowMs + AVOID_MS;
    const wasThere = this.#control !== undefined;
    this.#disconnect();
    let first = true;
    while (this.#queue.length > 0) {
      if (this.#queue.canceled) this.#end(Outcome.canceled);
      else if (first || !wasThere)
        this.#end(this.#touched ? Outcome.peerLost : Outcome.connectFailed, error);
      else this.#end(Outcome.replay);
      first = false;
    }
    this.#flush();
  }

  #disconnect(): void {
    this.#objects.close();
    this.#control?.close();
    this.#control = undefined;
  }

  /** Follows a change of what the peer offers. The oldest slice begins again: its object may differ. */
  #adopt(control: PeerControl): void {
    this.#objects.keep(control.table);
    this.#done = 0;
  }

  #cancelAll(): void {
    while (this.#queue.length > 0) this.#end(Outcome.canceled);
    this.#flush();
  }

  /**
   * An object is not what it should be, or a local store failed. Another way is tried, but not to
   * memory that was cut: its owner must not touch it either.
   */
  #fault(thrown: unknown, object: PeerObject | undefined): void {
    if (object !== undefined) this.#objects.drop(object);
    const context = `copying to or from "${this.#peer.descriptor.name}" failed`;
    const error = EngineError.from(thrown, 'ERR_TE_MEMORY', context);
    this.#deps.counters.failures += 1;
    this.#end(error.details['cut'] === true ? Outcome.protocolError : Outcome.localFault, error);
  }

  #endOk(length: number): void {
    this.#deps.counters.slices += 1;
    this.#deps.counters.bytes += length;
    this.#end(Outcome.ok);
  }

  /** Ends the oldest slice; reports what came before it if that ended differently. */
  #end(outcome: Outcome, error?: EngineError): void {
    const { run } = this.#queue;
    const aftermath = this.#touched ? QUIESCENT : UNTOUCHED;
    this.#queue.shift();
    this.#done = 0;
    this.#touched = false;
    if (
      run !== this.#run ||
      outcome !== this.#outcome ||
      error !== this.#error ||
      (outcome !== Outcome.ok && aftermath !== this.#aftermath)
    ) {
      this.#flush();
      this.#run = run;
      this.#outcome = outcome;
      this.#error = error;
      this.#aftermath = aftermath;
    }
    this.#count += 1;
  }

  /**
   * Reports what has ended. If the peer changed what it offers meanwhile, the bytes may have gone to
   * memory that is not the destination any more: nothing of it counts, and all is moved again.
   */
  #flush(): void {
    if (this.#run === undefined) return;
    if (this.#outcome === Outcome.ok && this.#control?.changed === true) {
      this.#deps.counters.replayed += this.#count;
      this.#outcome = Outcome.replay;
      this.#aftermath = QUIESCENT;
    }
    const run = this.#run;
    const count = this.#count;
    this.#run = undefined;
    this.#count = 0;
    const { sink } = this.#deps.host;
    if (this.#outcome === Outcome.ok) sink.complete(run, count, Outcome.ok);
    else sink.complete(run, count, this.#outcome, this.#error, this.#aftermath);
  }

  #refused(length: number, isWrite: boolean): EngineError {
    const what = isWrite ? 'write' : 'read';
    const address = this.#queue.exactAddress;
    const peer = this.#peer.descriptor.name;
    return new EngineError(
      'ERR_TE_ADDRESS_REJECTED',
      `"${peer}" does not permit to ${what} ${length} bytes of shared memory at address ${address}; ` +
        'open the segment again if its buffers may have changed',
      { details: { peer, address, length, opcode: what } },
    );
  }
}
