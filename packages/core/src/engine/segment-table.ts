import { EngineError, invalidArgument } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { SegmentDirectory, ResolvedSegment } from '../metadata/segment-directory.ts';
import type { SegmentDescriptor } from '../segment/segment-descriptor.ts';
import {
  CANCEL_GRACE_MS,
  PeerQueue,
  type Submission,
  type TransferMachine,
} from '../transfer/index.ts';
import type { Route, Transport } from '../transport/transport.ts';
import type { OpenOptions, Segment, SegmentBuffer } from './engine-api.ts';
import type { Telemetry } from './telemetry.ts';

/** A peer's segment that somebody has open. */
export class RemoteSegment {
  readonly id: number;
  readonly name: string;
  readonly queue: PeerQueue;
  handles = 0;
  resolved: ResolvedSegment;
  /** True while the document is being fetched again because of trouble with the peer. */
  refreshing = false;
  /** Ends the watch of its document. */
  unwatch: (() => void) | undefined;

  constructor(id: number, name: string, resolved: ResolvedSegment) {
    this.id = id;
    this.name = name;
    this.resolved = resolved;
    this.queue = new PeerQueue(name);
  }
}

/** What users hold. Several handles may stand for one peer. */
export class SegmentHandle implements Segment {
  readonly remote: RemoteSegment;
  readonly table: SegmentTable;
  closed = false;

  constructor(remote: RemoteSegment, table: SegmentTable) {
    this.remote = remote;
    this.table = table;
  }

  get id(): number {
    return this.remote.id;
  }

  get name(): string {
    return this.remote.name;
  }

  get buffers(): readonly SegmentBuffer[] {
    return this.remote.resolved.descriptor.buffers;
  }

  get protocols(): readonly string[] {
    return this.remote.resolved.descriptor.protocols;
  }

  get tcpDataPort(): number {
    return this.remote.resolved.descriptor.tcpDataPort;
  }

  get tcpProtoVersion(): number {
    return this.remote.resolved.descriptor.tcpProtoVersion;
  }

  ready(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    if (this.closed) return Promise.reject(segmentClosed(this.name));
    return untilAborted(this.remote.queue.whenBelow(this.table.pendingBytesMax), options.signal);
  }

  refresh(options: OpenOptions = {}): Promise<void> {
    if (this.closed) return Promise.reject(segmentClosed(this.name));
    return this.table.refresh(this.remote, options);
  }

  close(): Promise<void> {
    if (this.closed) return Promise.resolve();
    this.closed = true;
    return this.table.release(this.remote);
  }
}

interface SegmentTableDeps {
  readonly directory: SegmentDirectory;
  readonly machine: TransferMachine;
  readonly transports: readonly Transport[];
  readonly logger: Logger;
  readonly telemetry: Telemetry;
  /** Bytes that may wait for a peer before producers are told to wait. */
  readonly pendingBytesMax: number;
}

/** Time for fetching a document again after trouble with a peer, in milliseconds. */
const TROUBLE_REFRESH_MS = 2_000;

/** All open segments: their documents, their routes, and who has them open. */
export class SegmentTable {
  readonly #deps: SegmentTableDeps;
  readonly #byName = new Map<string, RemoteSegment>();
  #nextId = 1;

  constructor(deps: SegmentTableDeps) {
    this.#deps = deps;
  }

  get pendingBytesMax(): number {
    return this.#deps.pendingBytesMax;
  }

  /** Submissions that have not settled, of all peers. */
  *active(): Iterable<Submission> {
    for (const { queue } of this.#byName.values()) yield* queue.active;
  }

  get size(): number {
    return this.#byName.size;
  }

  async open(name: string, options: OpenOptions): Promise<SegmentHandle> {
    const resolved = await this.#deps.directory.resolve(name, options);
    const known = this.#byName.get(name);
    if (known !== undefined) {
      this.#update(known, resolved);
      known.handles += 1;
      return new SegmentHandle(known, this);
    }
    const routes = this.#routesTo(resolved);
    if (routes.length === 0) throw this.#unreachable(name, resolved.descriptor);
    const remote = new RemoteSegment(this.#nextId, name, resolved);
    this.#nextId += 1;
    remote.handles = 1;
    remote.queue.describe(resolved.descriptor);
    remote.queue.onTrouble = () => this.#refreshAfterTrouble(remote);
    this.#deps.machine.setRoutes(remote.queue, routes);
    this.#byName.set(name, remote);
    const { directory } = this.#deps;
    remote.unwatch = directory.watch?.(name, () => this.#refreshAfterTrouble(remote));
    this.#deps.telemetry.peer(name, 'opened');
    return new SegmentHandle(remote, this);
  }

  async refresh(remote: RemoteSegment, options: OpenOptions): Promise<void> {
    const resolved = await this.#deps.directory.resolve(remote.name, options);
    if (this.#byName.get(remote.name) === remote) this.#update(remote, resolved);
  }

  async refreshAll(timeoutMs: number): Promise<void> {
    for (const remote of [...this.#byName.values()]) {
      await this.refresh(remote, { timeoutMs }).catch((error: unknown) => {
        this.#deps.logger.warn({ segment: remote.name, error }, 'could not refresh a segment');
      });
    }
  }

  /** Host, control port and document of an open segment; undefined when it is not open. */
  find(name: string): ResolvedSegment | undefined {
    return this.#byName.get(name)?.resolved;
  }

  async release(remote: RemoteSegment): Promise<void> {
    remote.handles -= 1;
    if (remote.handles > 0 || this.#byName.get(remote.name) !== remote) return;
    this.#byName.delete(remote.name);
    this.#deps.telemetry.peer(remote.name, 'closed');
    await this.#dismantle(remote, segmentClosed(remote.name));
  }

  capabilities(name: string): readonly string[] {
    return this.#byName.get(name)?.resolved.descriptor.extras?.capabilities ?? [];
  }

  async closeAll(error: EngineError): Promise<void> {
    const all = [...this.#byName.values()];
    this.#byName.clear();
    await Promise.all(all.map((remote) => this.#dismantle(remote, error)));
  }

  async #dismantle(remote: RemoteSegment, error: EngineError): Promise<void> {
    const { machine } = this.#deps;
    const { queue } = remote;
    queue.onTrouble = undefined;
    remote.unwatch?.();
    for (const submission of [...queue.active]) machine.end(submission, error, CANCEL_GRACE_MS);
    const routes = queue.routes.map(({ route }) => route);
    await Promise.all(routes.map((route) => route.close()));
    machine.removePeer(queue);
  }

  #update(remote: RemoteSegment, resolved: ResolvedSegment): void {
    const before = remote.resolved;
    remote.resolved = resolved;
    remote.queue.describe(resolved.descriptor);
    const restarted = hasRestarted(before, resolved);
    if (!restarted && !pathChanged(before, resolved)) {
      const { descriptor, host } = resolved;
      for (const { route } of remote.queue.routes) route.update?.({ descriptor, host });
      return;
    }
    const { machine, logger } = this.#deps;
    logger.info(
      { segment: remote.name, restarted },
      'a peer is reached in another way from now on',
    );
    if (restarted) {
      // Addresses of the old instance mean nothing to the new one: nothing is replayed there.
      const error = new EngineError(
        'ERR_TE_PEER_LOST',
        `"${remote.name}" was restarted; its buffers have new addresses. Read segment.buffers again`,
        { details: { peer: remote.name } },
      );
      for (const submission of [...remote.queue.active]) machine.end(submission, error, 0);
    }
    const old = remote.queue.routes.map(({ route }) => route);
    machine.setRoutes(remote.queue, this.#routesTo(resolved));
    for (const route of old) void route.close();
  }

  #refreshAfterTrouble(remote: RemoteSegment): void {
    if (remote.refreshing) return;
    remote.refreshing = true;
    this.refresh(remote, { timeoutMs: TROUBLE_REFRESH_MS })
      .catch((error: unknown) => {
        this.#deps.logger.debug(
          { segment: remote.name, error },
          'a peer in trouble does not answer',
        );
      })
      .finally(() => {
        remote.refreshing = false;
      });
  }

  #routesTo({ descriptor, host }: ResolvedSegment): Route[] {
    return this.#deps.transports
      .map((transport) => transport.reach({ descriptor, host }))
      .filter((route) => route !== undefined);
  }

  #unreachable(name: string, descriptor: SegmentDescriptor): EngineError {
    const own = this.#deps.transports.map((transport) => transport.name).join(', ') || 'none';
    return new EngineError(
      'ERR_TE_NOT_SUPPORTED_TRANSPORT',
      `"${name}" speaks ${descriptor.protocols.join(', ') || 'nothing'}; transports of this engine: ${own}. ` +
        'Give createEngine a transport that the peer speaks',
      { details: { peer: name, protocols: descriptor.protocols } },
    );
  }
}

/**
 * Another start of an engine under the same name, as far as documents tell. C++ engines publish no
 * instance; they choose their ports when they start, and keep them.
 */
function hasRestarted(before: ResolvedSegment, after: ResolvedSegment): boolean {
  const [old, now] = [before.descriptor, after.descriptor];
  const instances = [old.extras?.instance, now.extras?.instance];
  if (instances.some((instance) => instance !== undefined)) return instances[0] !== instances[1];
  return before.rpcPort !== after.rpcPort || old.tcpDataPort !== now.tcpDataPort;
}

function pathChanged(before: ResolvedSegment, after: ResolvedSegment): boolean {
  const key = ({ host, descriptor }: ResolvedSegment) =>
    JSON.stringify([
      host,
      descriptor.protocols,
      descriptor.tcpDataPort,
      descriptor.tcpProtoVersion,
      descriptor.devices,
    ]);
  return key(before) !== key(after);
}

/** The work, or the signal's reason as soon as it aborts. */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

export function segmentClosed(name: string): EngineError {
  return new EngineError('ERR_TE_CLOSED', `the segment "${name}" was closed; open it again`, {
    details: { peer: name },
  });
}

export function checkSegmentName(name: unknown): string {
  if (typeof name !== 'string') throw invalidArgument('name', name, 'a text');
  const stripped = name.replace(/^\/+/, '');
  if (stripped === '') throw invalidArgument('name', name, 'a name that is not empty');
  return stripped;
}
