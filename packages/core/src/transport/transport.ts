import type { Clock } from '../base/clock.ts';
import type { EngineError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Random } from '../base/random.ts';
import type { ByteStore } from '../memory/byte-store.ts';
import type { MemoryRegistry } from '../memory/memory-registry.ts';
import type { RegisteredRegion } from '../memory/registered-region.ts';
import type { SegmentDescriptor, SegmentDraft } from '../segment/segment-descriptor.ts';
import type { HandshakeDocument } from '../wire/handshake-document.ts';
import type { Aftermath, Outcome } from './outcome.ts';
import type { Slice, SliceRun } from './slice.ts';

/** What a peer is to a transport: its document and where its ports are. */
export interface Peer {
  readonly descriptor: SegmentDescriptor;
  /** Host name or address (IPv6 without brackets) at which the peer can be reached. */
  readonly host: string;
}

/**
 * Where outcomes go.
 *
 * Never called from inside `post`. For each run, outcomes come in the order in which its slices
 * were taken, and each taken slice gets exactly one.
 */
export interface CompletionSink {
  /**
   * Ends the next `count` slices of `run`.
   *
   * @param aftermath what is known about the destination of these slices; only meaningful for
   * outcomes other than `ok`. `true` stands for quiescent (the default), `false` for unknown. The
   * source is never read again in any case.
   */
  complete(
    run: SliceRun,
    count: number,
    outcome: Outcome,
    error?: EngineError,
    aftermath?: boolean | Aftermath,
  ): void;
  /**
   * Bytes of a slice of `run` moved, although none ended. Only needed for slices that take long
   * (more than a few MiB), so that they are not taken for stalled.
   */
  progress?(run: SliceRun): void;
  /** The route can take work again after a `post` that took less than it was offered. */
  ready(route: Route): void;
}

/** What the engine lends to a transport. */
export interface TransportHost {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly sink: CompletionSink;
  /** Registered memory of this engine; targets resolve the addresses of peers with it. */
  readonly registry: MemoryRegistry;
  /** Name of the local segment. */
  readonly segmentName: string;
  /** Random id of this start of the engine, as published to engines of its own kind. */
  readonly instance: string;
  /** Identity of host and boot, as it is published; the part after the last slash is the boot. */
  readonly hostIdentity: string;
  /** Nothing that C++ engines do not know may be published or sent. */
  readonly strict: boolean;
  /** Address to listen on; undefined means every interface (both families). */
  readonly bindHost: string | undefined;
  /** Ports to listen on, inclusive; undefined means one that the system chooses. */
  readonly portRange: { readonly min: number; readonly max: number } | undefined;
  /** Environment variables as they were when the engine was made. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Sends a handshake to the peer's control port and returns its answer. */
  handshake(
    peer: Peer,
    message: HandshakeDocument,
    signal?: AbortSignal,
  ): Promise<HandshakeDocument>;
}

export interface TransportCapabilities {
  /**
   * True when local memory must have been registered (a NIC has to know it). Otherwise any memory
   * of the process can be the local side.
   */
  readonly needsRegisteredMemory: boolean;
}

/**
 * One way from this engine to one peer.
 *
 * Made by {@link Transport.reach}; lives until `close` or until the peer's document changes.
 */
export interface Route {
  readonly transport: Transport;
  readonly peer: Peer;
  /**
   * Largest slice that core should cut, in bytes; Infinity means that requests are not cut.
   */
  readonly sliceBytes: number;
  /**
   * `applied` when `ok` means that the bytes are in the destination, `sent` when the wire cannot
   * tell for writes (v1 TCP).
   */
  readonly writeDurability: 'applied' | 'sent';
  /** True when slices can travel with a checksum that the receiver compares. Default false. */
  readonly checksums?: boolean;
  /**
   * False when the route knows already that it cannot carry a slice which another route might:
   * core asks the next one then. Cheap and without I/O. Default: true for every slice.
   */
  reaches?(slice: Slice): boolean;
  /** The peer's document has other buffers now; the way to the peer is the same. */
  update?(peer: Peer): void;
  /**
   * Takes slices from the front of `run` as long as there is room for each, and returns how many
   * it took. All that it takes from one call ends in order. Taking fewer than offered is
   * back-pressure, not an error; an outcome or {@link CompletionSink.ready} follows then.
   */
  post(run: SliceRun): number;
  /**
   * Asks to end what was taken from `run`. Slices that did not start end as `canceled` at once.
   * Slices that are being served may still end by themselves for `graceMs`; then the lane is given
   * up: they end as `canceled` (with `quiescent: false` where the destination may still change),
   * and slices of other runs on that lane are replayed, not failed.
   */
  cancel(run: SliceRun, graceMs: number): void;
  /** Gives up connections. Slices that are still owned end as `canceled`. */
  close(): Promise<void>;
}

/**
 * A way to move bytes. The contract, in eight clauses, which the compliance suite proves:
 *
 * 1. `post` takes a prefix and returns its length; fewer than offered is back-pressure, never an
 *    exception. Taken means owned.
 * 2. Every taken slice gets exactly one outcome, never from inside `post`.
 * 3. After the outcome the transport does not touch the local memory again, also on failure. It
 *    says so when it cannot vouch for the destination (`quiescent: false`).
 * 4. `ok` means that the bytes are in the destination's memory; a route that cannot know says so
 *    in `writeDurability`.
 * 5. `reach` is cheap and does no I/O; anything slow happens behind `post`.
 * 6. `close` ends all taken slices before it resolves; after it, `post` takes nothing.
 * 7. No policy: no retry, no slicing, no choice between transports.
 * 8. A refused remote address leaves the destination unchanged, and slices of others on the same
 *    connection are replayed or served, not failed.
 */
export interface Transport {
  /** Name in documents and options: "tcp", "shm", "rdma". */
  readonly name: string;
  readonly capabilities: TransportCapabilities;
  /** Opens listeners and devices. After this, `describe` is complete. */
  start(): Promise<void>;
  /** Adds ports, devices and keys to the local segment's description. */
  describe(draft: SegmentDraft): void;
  /** Makes memory that this transport can reach at its best (shared objects, pinned pages). */
  allocate?(request: AllocateRequest): Promise<AllocatedMemory>;
  /** Prepares a region for peers and for local use (keys, mappings). All regions or none. */
  attach?(regions: readonly RegisteredRegion[]): Promise<void>;
  /** Stops whatever peers do with the regions right now, and forgets them. */
  detach?(regions: readonly RegisteredRegion[]): Promise<void>;
  /** The route to a peer, or undefined when this transport cannot reach it. */
  reach(peer: Peer): Route | undefined;
  /** Answers a handshake of a peer (type 0 of the control port). */
  acceptHandshake?(message: HandshakeDocument): Promise<HandshakeDocument>;
  /** Counters for `engine.stats()`. */
  stats?(): Readonly<Record<string, number>>;
  close(): Promise<void>;
}

/** How to allocate memory that a transport can reach at its best. */
export interface AllocateRequest {
  /** Bytes, at least 1. */
  readonly length: number;
  /** "cpu:0", "cuda:1" or "*". */
  readonly location: string;
  /** Name of an object that exists already, and where in it to begin; for transports with names. */
  readonly path?: string;
  readonly offset?: number;
}

/** Memory that a transport made. The engine registers it and gives it back. */
export interface AllocatedMemory {
  readonly store: ByteStore;
  /** A real address below 2^53, if the memory has one that means something to others. */
  readonly address?: number;
  /** Gives the memory back; called once, when nobody uses it any more. */
  release(): Promise<void>;
}

/** What users put into `createEngine({ transports })`. */
export interface TransportFactory {
  readonly name: string;
  create(host: TransportHost): Transport;
}
