import { EngineError } from '../base/errors.ts';
import { invariant } from '../base/invariant.ts';
import type { RegisteredRegion } from '../memory/registered-region.ts';
import type { SegmentDraft } from '../segment/segment-descriptor.ts';
import { Outcome, type Aftermath } from '../transport/outcome.ts';
import { Slice, type SliceRun } from '../transport/slice.ts';
import type {
  Peer,
  Route,
  Transport,
  TransportFactory,
  TransportHost,
} from '../transport/transport.ts';
import { copyBytes } from './copy-bytes.ts';
import { SliceQueue } from '../transport/slice-queue.ts';

/** Bytes that one turn copies before it lets others run: about 0.2 ms. */
const TURN_BYTES = 4 * 1024 * 1024;
/** Slices that one turn ends before it lets others run. */
const TURN_SLICES = 1_024;
/** A refusal makes an error with its stack, which takes as long as this many slices. */
const REJECTION_COST = 64;

const UNTOUCHED: Aftermath = { destination: 'untouched' };

export interface MemoryTransportOptions {
  /** Name in documents and options. Default "memory". */
  readonly name?: string;
  /** Slices that wait on one route at most; more is back-pressure. Default 1,024. */
  readonly queueSlices?: number;
  /** Largest slice that core should cut, in bytes. Default 4 MiB, Infinity is allowed. */
  readonly sliceBytes?: number;
  /**
   * Whether bytes are copied. Default true; false is for measuring everything but the copy, and
   * the only case in which `ok` does not mean that the bytes are there.
   */
  readonly copy?: boolean;
}

/** The engines of one process that reach each other through a memory transport. */
export class MemoryNetwork {
  readonly #members = new Map<string, MemoryTransport>();

  /** Finds who answers to a segment name now. */
  find(segmentName: string): MemoryTransport | undefined {
    return this.#members.get(segmentName);
  }

  /** Called by transports when they start. The newest one with a name has it. */
  join(segmentName: string, transport: MemoryTransport): void {
    this.#members.set(segmentName, transport);
  }

  leave(segmentName: string, transport: MemoryTransport): void {
    if (this.#members.get(segmentName) === transport) this.#members.delete(segmentName);
  }
}

/**
 * A small, real transport between the engines of one process.
 *
 * Peers are found by the name of their segment. Addresses are resolved through the registry of
 * the target, with its permissions.
 */
export function memoryTransport(
  network: MemoryNetwork,
  options: MemoryTransportOptions = {},
): TransportFactory {
  return {
    name: options.name ?? 'memory',
    create: (host) => new MemoryTransport(network, host, options),
  };
}

export class MemoryTransport implements Transport {
  readonly name: string;
  readonly capabilities = { needsRegisteredMemory: false };
  readonly host: TransportHost;
  readonly network: MemoryNetwork;
  readonly options: Required<MemoryTransportOptions>;
  readonly #routes = new Set<MemoryRoute>();
  /** Copies of asynchronous stores that touch a region right now. */
  readonly #copies = new Map<RegisteredRegion, Set<Promise<void>>>();
  #slices = 0;
  #bytes = 0;
  #rejected = 0;
  #closed = false;

  constructor(network: MemoryNetwork, host: TransportHost, options: MemoryTransportOptions) {
    this.network = network;
    this.host = host;
    this.name = options.name ?? 'memory';
    this.options = {
      name: this.name,
      queueSlices: options.queueSlices ?? 1024,
      sliceBytes: options.sliceBytes ?? TURN_BYTES,
      copy: options.copy ?? true,
    };
    invariant(this.options.queueSlices >= 1, 'a route holds at least one slice');
  }

  start(): Promise<void> {
    this.network.join(this.host.segmentName, this);
    return Promise.resolve();
  }

  describe(draft: SegmentDraft): void {
    draft.protocols.push(this.name);
    draft.capabilities.push(this.name);
  }

  async detach(regions: readonly RegisteredRegion[]): Promise<void> {
    for (const region of regions) {
      while (this.#copies.has(region)) await Promise.allSettled(this.#copies.get(region) ?? []);
    }
  }

  reach(peer: Peer): Route | undefined {
    const { protocols, extras } = peer.descriptor;
    const known = protocols.includes(this.name) || extras?.capabilities.includes(this.name);
    if (this.#closed || known !== true) return undefined;
    const route = new MemoryRoute(this, peer);
    this.#routes.add(route);
    return route;
  }

  stats(): Readonly<Record<string, number>> {
    return {
      routes: this.#routes.size,
      slices: this.#slices,
      bytes: this.#bytes,
      rejected: this.#rejected,
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.network.leave(this.host.segmentName, this);
    await Promise.all([...this.#routes].map((route) => route.close()));
  }

  /** Remembers an asynchronous copy into or out of one of our regions until it ended. */
  watch(region: RegisteredRegion, copy: Promise<void>): void {
    const copies = this.#copies.get(region) ?? new Set<Promise<void>>();
    this.#copies.set(region, copies.add(copy));
    const end = () => {
      copies.delete(copy);
      if (copies.size === 0) this.#copies.delete(region);
    };
    copy.then(end, end);
  }

  /** Counts what routes of this transport ended. */
  count(slices: number, bytes: number, rejected: number): void {
    this.#slices += slices;
    this.#bytes += bytes;
    this.#rejected += rejected;
  }

  forget(route: MemoryRoute): void {
    this.#routes.delete(route);
  }
}

class MemoryRoute implements Route {
  readonly transport: MemoryTransport;
  readonly peer: Peer;
  readonly sliceBytes: number;
  readonly writeDurability = 'applied';
  readonly #queue: SliceQueue;
  readonly #slice = new Slice();
  readonly #turn = () => this.#work();
  /** A turn is planned, or waits for an asynchronous copy. */
  #busy = false;
  /** The last `post` took less than it was offered. */
  #starved = false;
  #closed = false;
  #closing: Promise<void> | undefined;
  /** What is left of the slices and bytes that may be served before others get their turn. */
  #turnSlices = TURN_SLICES;
  #turnBytes = TURN_BYTES;
  /** Outcomes that were not reported yet: all of one run, all the same. */
  #run: SliceRun | undefined;
  #count = 0;
  #outcome: Outcome = Outcome.ok;
  #error: EngineError | undefined;
  /** Called when nothing is owned any more. */
  #onDrained: (() => void) | undefined;

  constructor(transport: MemoryTransport, peer: Peer) {
    this.transport = transport;
    this.peer = peer;
    this.sliceBytes = transport.options.sliceBytes;
    this.#queue = new SliceQueue(transport.options.queueSlices);
  }

  post(run: SliceRun): number {
    if (this.#closed) return 0;
    const slice = this.#slice;
    let taken = 0;
    while (run.peek(slice)) {
      if (this.#queue.full) {
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
    if (this.#busy) {
      await new Promise<void>((resolve) => {
        this.#onDrained = resolve;
      });
    }
    this.transport.forget(this);
  }

  /** Plans one turn for everything that is posted until then. */
  #wake(): void {
    if (this.#busy) return;
    this.#busy = true;
    if (this.#turnSlices > 0 && this.#turnBytes > 0) {
      queueMicrotask(this.#turn);
      return;
    }
    this.#turnSlices = TURN_SLICES;
    this.#turnBytes = TURN_BYTES;
    setImmediate(this.#turn);
  }

  #work(): void {
    const target = this.transport.network.find(this.peer.descriptor.name);
    const queue = this.#queue;
    while (queue.length > 0 && this.#turnSlices > 0 && this.#turnBytes > 0) {
      this.#turnSlices -= 1;
      if (this.#closed || queue.canceled) this.#end(Outcome.canceled);
      else if (target === undefined) this.#end(Outcome.connectFailed, this.#unreachable());
      else {
        const copy = this.#serve(target);
        if (copy !== undefined) {
          this.#flush();
          this.#waitFor(copy);
          return;
        }
      }
    }
    this.#flush();
    this.#busy = false;
    if (queue.length > 0) this.#wake();
    else this.#onDrained?.();
    if (this.#starved && !queue.full) {
      this.#starved = false;
      this.transport.host.sink.ready(this);
    }
  }

  /** Serves the oldest slice. Returns a promise when a store needs time to copy. */
  #serve(target: MemoryTransport): Promise<void> | undefined {
    const queue = this.#queue;
    const { address, sliceLength: length, isWrite } = queue;
    // An address beyond 2^53 is NaN here, and no comparison with it may pass for "inside".
    const region =
      address >= 0
        ? target.host.registry.resolveRemote(address, length, isWrite ? 'write' : 'read')
        : undefined;
    if (region === undefined) {
      this.transport.count(0, 0, 1);
      this.#turnSlices -= REJECTION_COST;
      this.#end(Outcome.rejected, this.#refused(length, isWrite));
      return undefined;
    }
    this.#turnBytes -= length;
    const at = address - region.address;
    if (this.transport.options.copy) {
      const copy = isWrite
        ? copyBytes(queue.store, queue.offset, region.store, at, length)
        : copyBytes(region.store, at, queue.store, queue.offset, length);
      if (copy !== undefined) {
        target.watch(region, copy);
        return copy;
      }
    }
    this.transport.count(1, length, 0);
    this.#end(Outcome.ok);
    return undefined;
  }

  #waitFor(copy: Promise<void>): void {
    const length = this.#queue.sliceLength;
    copy.then(
      () => {
        this.transport.count(1, length, 0);
        this.#end(Outcome.ok);
        this.#work();
      },
      (error: unknown) => {
        const context = `copying ${length} bytes to or from ${this.peer.descriptor.name} failed`;
        this.#end(Outcome.localFault, EngineError.from(error, 'ERR_TE_MEMORY', context));
        this.#work();
      },
    );
  }

  /** Ends the oldest slice; reports what came before it if that ended differently. */
  #end(outcome: Outcome, error?: EngineError): void {
    const { run } = this.#queue;
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
    const { host } = this.transport;
    const run = this.#run;
    const count = this.#count;
    if (run === undefined || count === 0) return;
    this.#run = undefined;
    this.#count = 0;
    const outcome = this.#outcome;
    if (outcome === Outcome.ok) host.sink.complete(run, count, outcome);
    // A copy that failed may have moved a part; everything else ended before its copy began.
    else if (outcome === Outcome.localFault) host.sink.complete(run, count, outcome, this.#error);
    else host.sink.complete(run, count, outcome, this.#error, UNTOUCHED);
  }

  #refused(length: number, isWrite: boolean): EngineError {
    const what = isWrite ? 'write' : 'read';
    const address = this.#queue.exactAddress;
    return new EngineError(
      'ERR_TE_ADDRESS_REJECTED',
      `${this.peer.descriptor.name} does not permit to ${what} ${length} bytes at address ${address}; ` +
        'open the segment again if its buffers may have changed',
      { details: { peer: this.peer.descriptor.name, address, length, opcode: what } },
    );
  }

  #unreachable(): EngineError {
    const name = this.peer.descriptor.name;
    return new EngineError(
      'ERR_TE_CONNECT_FAILED',
      `no engine named ${name} is in this memory network; it has not started, or is closed`,
      { details: { peer: name } },
    );
  }
}
