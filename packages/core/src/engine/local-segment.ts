import type { EngineError } from '../base/errors.ts';
import type { MemoryRegistry } from '../memory/memory-registry.ts';
import type { SegmentDescriptor } from '../segment/segment-descriptor.ts';
import { CANCEL_GRACE_MS, PeerQueue, type TransferMachine } from '../transfer/index.ts';
import type { EngineLimits, Segment, SegmentBuffer } from './engine-api.ts';
import type { LocalMemory } from './local-memory.ts';
import { LocalRoute } from './local-route.ts';
import { untilAborted } from './segment-table.ts';

interface LocalSegmentDeps {
  readonly segmentName: string;
  readonly address: { readonly host: string };
  readonly memory: LocalMemory;
  readonly registry: MemoryRegistry;
  readonly machine: TransferMachine;
  readonly config: { readonly limits: EngineLimits };
}

/** The own memory is the truth; there is no document to go by. */
class LocalQueue extends PeerQueue {
  readonly #registry: MemoryRegistry;

  constructor(name: string, registry: MemoryRegistry) {
    super(name);
    this.#registry = registry;
  }

  override holds(address: bigint, length: number): boolean {
    return this.#registry.resolveRemote(Number(address), length, 'read') !== undefined;
  }
}

/** Our own segment, usable as a target like any other. */
export class LocalSegment implements Segment {
  readonly id = 0;
  readonly name: string;
  readonly queue: PeerQueue;
  readonly #deps: LocalSegmentDeps;
  readonly #route: LocalRoute;

  constructor(deps: LocalSegmentDeps) {
    this.#deps = deps;
    this.name = deps.segmentName;
    this.queue = new LocalQueue(deps.segmentName, deps.registry);
    const descriptor: SegmentDescriptor = {
      name: deps.segmentName,
      protocols: ['local'],
      tcpDataPort: 0,
      tcpProtoVersion: 1,
      buffers: [],
      devices: [],
      priorityMatrix: {},
    };
    this.#route = new LocalRoute(
      { descriptor, host: deps.address.host },
      deps.registry,
      deps.machine,
    );
    deps.machine.setRoutes(this.queue, [this.#route]);
  }

  get buffers(): readonly SegmentBuffer[] {
    return this.#deps.memory.buffers();
  }

  get protocols(): readonly string[] {
    return this.#deps.memory.draft([]).protocols;
  }

  get tcpDataPort(): number {
    return this.#deps.memory.draft([]).tcpDataPort;
  }

  get tcpProtoVersion(): number {
    return this.#deps.memory.draft([]).tcpProtoVersion;
  }

  ready(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    return untilAborted(
      this.queue.whenBelow(this.#deps.config.limits.pendingBytesPerPeer),
      options.signal,
    );
  }

  /** The own document is always current. */
  refresh(): Promise<void> {
    return Promise.resolve();
  }

  /** The own segment stays open as long as the engine. */
  close(): Promise<void> {
    return Promise.resolve();
  }

  async closeQueue(error: EngineError): Promise<void> {
    const { machine } = this.#deps;
    for (const submission of [...this.queue.active])
      machine.end(submission, error, CANCEL_GRACE_MS);
    await this.#route.close();
  }
}
