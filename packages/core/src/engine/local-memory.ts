import { constants } from 'node:buffer';
import type { Clock } from '../base/clock.ts';
import { EngineError, invalidArgument } from '../base/errors.ts';
import { BufferStore, isMemoryLike, toBuffer, type MemoryLike } from '../memory/buffer-store.ts';
import type { MemoryRegistry, RegionRequest } from '../memory/memory-registry.ts';
import { PERMISSIONS, type Permission } from '../memory/permission.ts';
import type { RegisteredRegion } from '../memory/registered-region.ts';
import type { SegmentDraft } from '../segment/segment-descriptor.ts';
import type { AllocatedMemory, Transport } from '../transport/transport.ts';
import type {
  AllocateOptions,
  MemoryRegion,
  RegisterOptions,
  SegmentBuffer,
  UnregisterOptions,
} from './engine-api.ts';

/** Default of `timeoutMs` when unregistering waits, in milliseconds. */
const UNREGISTER_WAIT_MS = 5_000;
const BUSY_MODES = ['refuse', 'wait', 'fence'] as const;

/** A region as users hold it. */
export class EngineMemoryRegion implements MemoryRegion {
  /** The registry's record of the same region. */
  readonly registered: RegisteredRegion;
  readonly #memory: LocalMemory;

  constructor(registered: RegisteredRegion, memory: LocalMemory) {
    this.registered = registered;
    this.#memory = memory;
  }

  get id(): number {
    return this.registered.id;
  }

  get address(): bigint {
    return BigInt(this.registered.address);
  }

  get length(): number {
    return this.registered.length;
  }

  get location(): string {
    return this.registered.location;
  }

  get permission(): Permission {
    return this.registered.permission;
  }

  get bytes(): Buffer {
    const { store } = this.registered;
    return store instanceof BufferStore ? store.bytes : this.view(0, store.length);
  }

  view(offset: number, length: number): Buffer {
    const { store } = this.registered;
    const last = store.length - offset;
    if (!Number.isSafeInteger(offset) || offset < 0 || offset > store.length) {
      throw invalidArgument('offset', offset, `an integer from 0 to ${store.length}`);
    }
    if (!Number.isSafeInteger(length) || length < 0 || length > last) {
      throw invalidArgument('length', length, `an integer from 0 to ${last}`);
    }
    if (length > constants.MAX_LENGTH) {
      throw invalidArgument(
        'length',
        length,
        `at most ${constants.MAX_LENGTH}, as much as a Buffer holds`,
      );
    }
    const view = store.view?.(offset, length);
    if (view !== undefined) return toBuffer(view);
    throw new EngineError(
      'ERR_TE_NOT_IMPLEMENTED',
      `region ${this.id} is not in the memory of this process; use region.read() and region.write()`,
      { details: { region: this.id } },
    );
  }

  get hasView(): boolean {
    return this.registered.store.view !== undefined;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    this.#checkRange(offset, target);
    await this.registered.store.readInto(target, offset);
  }

  async write(offset: number, source: Uint8Array): Promise<void> {
    this.#checkRange(offset, source);
    await this.registered.store.writeFrom(source, offset);
  }

  #checkRange(offset: number, bytes: Uint8Array): void {
    if (!(bytes instanceof Uint8Array)) throw invalidArgument('bytes', bytes, 'a Uint8Array');
    const last = this.length - bytes.byteLength;
    if (!Number.isSafeInteger(offset) || offset < 0 || offset > last) {
      throw invalidArgument('offset', offset, `an integer from 0 to ${last}`);
    }
    if (this.registered.live) return;
    throw new EngineError('ERR_TE_ADDRESS_NOT_REGISTERED', `region ${this.id} was unregistered`);
  }

  unregister(options: UnregisterOptions = {}): Promise<void> {
    return this.#memory.unregister(this.registered, options);
  }
}

interface LocalMemoryDeps {
  readonly registry: MemoryRegistry;
  readonly transports: readonly Transport[];
  readonly segmentName: () => string;
  readonly regionsMax: number;
  readonly clock: Clock;
  /** Ends own transfers that use a region. */
  cancelTransfersOf(region: RegisteredRegion): void;
  /** Writes the segment's document to where peers look for it. */
  publish(): Promise<void>;
}

/** Registers and withdraws memory: registry, transports and document together, or not at all. */
export class LocalMemory {
  readonly #deps: LocalMemoryDeps;
  /** Memory that is to be given back with its region. */
  readonly #allocated = new Map<RegisteredRegion, AllocatedMemory>();

  constructor(deps: LocalMemoryDeps) {
    this.#deps = deps;
  }

  async register(list: readonly MemoryLike[], options: RegisterOptions): Promise<MemoryRegion[]> {
    const checked = checkOptions(options);
    list.forEach((memory, index) => {
      checkMemory(memory, list.length === 1 ? 'memory' : `memory[${index}]`);
    });
    const requests = list.map((memory) => ({ store: new BufferStore(memory), ...checked }));
    return this.#add(requests, options.publish ?? true);
  }

  async allocate(length: number, options: AllocateOptions): Promise<MemoryRegion> {
    if (!Number.isSafeInteger(length) || length < 1) {
      throw invalidArgument('length', length, 'an integer of at least 1 (bytes)');
    }
    const checked = checkOptions(options);
    const allocated = await this.#allocateBytes(length, checked.location, options);
    const { store, address } = allocated;
    const request = { store, ...checked, ...(address === undefined ? {} : { address }) };
    try {
      const [region] = await this.#add([request], options.publish ?? true);
      this.#allocated.set((region as EngineMemoryRegion).registered, allocated);
      return region as MemoryRegion;
    } catch (error) {
      await allocated.release();
      throw error;
    }
  }

  async #allocateBytes(
    length: number,
    location: string,
    options: AllocateOptions,
  ): Promise<AllocatedMemory> {
    const { transport: wanted, shmPath: path, shmOffset: offset } = options;
    const named = this.#deps.transports.filter(
      ({ name }) => wanted === undefined || name === wanted,
    );
    const transport = named.find((transport) => transport.allocate !== undefined);
    const request = {
      ...{ length, location },
      ...(path === undefined ? {} : { path }),
      ...(offset === undefined ? {} : { offset }),
    };
    if (transport?.allocate !== undefined) return transport.allocate(request);
    if (wanted !== undefined || path !== undefined) {
      const able = this.#deps.transports.filter((transport) => transport.allocate !== undefined);
      const accepted =
        able.map(({ name }) => name).join(', ') || 'none: no transport allocates memory';
      throw invalidArgument('transport', wanted, accepted);
    }
    const largest = constants.MAX_LENGTH;
    if (length > largest) throw invalidArgument('length', length, `at most ${largest} (bytes)`);
    // Zeroed: what was in the memory before must not be readable by peers.
    const store = new BufferStore(Buffer.alloc(length));
    return { store, release: () => Promise.resolve() };
  }

  async #add(requests: readonly RegionRequest[], publish: boolean): Promise<EngineMemoryRegion[]> {
    const { registry, transports, regionsMax } = this.#deps;
    if (registry.size + requests.length > regionsMax) {
      throw new EngineError(
        'ERR_TE_MEMORY',
        `${registry.size} regions are registered and limits.regions is ${regionsMax}; ` +
          'unregister some, register larger pieces, or raise the limit',
      );
    }
    const regions = registry.add(requests);
    const attached: Transport[] = [];
    try {
      for (const transport of transports) {
        attached.push(transport);
        await transport.attach?.(regions);
      }
      const visible = regions.some(({ permission }) => permission !== 'local-read-write');
      if (publish && visible) await this.#deps.publish();
    } catch (error) {
      for (const region of regions) registry.retire(region);
      await Promise.allSettled(attached.map((transport) => transport.detach?.(regions)));
      for (const region of regions) registry.forget(region);
      throw EngineError.from(error, 'ERR_TE_MEMORY', 'registering memory');
    }
    return regions.map((region) => new EngineMemoryRegion(region, this));
  }

  /** Gives back all memory that was allocated and not unregistered; the last step of closing. */
  async releaseAll(): Promise<void> {
    const all = [...this.#allocated.values()];
    this.#allocated.clear();
    await Promise.all(all.map((memory) => memory.release()));
  }

  async unregister(region: RegisteredRegion, options: UnregisterOptions): Promise<void> {
    const { registry, transports } = this.#deps;
    const { busy = 'refuse', timeoutMs = UNREGISTER_WAIT_MS, publish = true } = options;
    if (!BUSY_MODES.includes(busy)) throw invalidArgument('busy', busy, BUSY_MODES.join(', '));
    if (registry.byId(region.id) !== region) {
      throw new EngineError(
        'ERR_TE_ADDRESS_NOT_REGISTERED',
        `region ${region.id} at 0x${region.address.toString(16)} is not registered any more`,
        { details: { region: region.id } },
      );
    }
    if (busy === 'refuse' && region.ownTransfers > 0) {
      throw new EngineError(
        'ERR_TE_BATCH_BUSY',
        `region ${region.id} is used by ${region.ownTransfers} own transfers that have not ended; ` +
          "wait for them, cancel them, or unregister with busy: 'wait' or 'fence'",
        { details: { region: region.id, transfers: region.ownTransfers } },
      );
    }
    registry.retire(region);
    const idle = new Promise<void>((resolve) => region.whenIdle(resolve));
    if (busy === 'wait') await this.#withinTime(idle, timeoutMs);
    if (region.ownTransfers > 0) this.#deps.cancelTransfersOf(region);
    const results = await Promise.allSettled(
      transports.map((transport) => transport.detach?.([region])),
    );
    await idle;
    registry.forget(region);
    const allocated = this.#allocated.get(region);
    this.#allocated.delete(region);
    await allocated?.release();
    const failed = results.find((result) => result.status === 'rejected');
    if (publish && region.permission !== 'local-read-write') await this.#deps.publish();
    if (failed !== undefined) {
      throw EngineError.from(failed.reason, 'ERR_TE_MEMORY', 'unregistering memory');
    }
  }

  #withinTime(work: Promise<void>, timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#deps.clock.schedule(timeoutMs, resolve);
      void work.then(() => {
        cancel();
        resolve();
      });
    });
  }

  /** The local segment as transports describe it now. */
  draft(capabilities: readonly string[]): SegmentDraft {
    const draft: SegmentDraft = {
      protocols: [],
      tcpDataPort: 0,
      tcpProtoVersion: 1,
      devices: [],
      priorityMatrix: {},
      capabilities: [...capabilities],
      buffers: [],
    };
    for (const region of this.#published()) {
      draft.buffers.push({
        regionId: region.id,
        name: this.#deps.segmentName(),
        address: BigInt(region.address),
        length: region.length,
        remoteKeys: [],
        localKeys: [],
        extras: region.permission === 'global-read-write' ? {} : { permission: region.permission },
      });
    }
    for (const transport of this.#deps.transports) transport.describe(draft);
    return draft;
  }

  /** What {@link draft} would offer, for users. */
  buffers(): SegmentBuffer[] {
    return this.draft([]).buffers.map(({ name, address, length }) => ({ name, address, length }));
  }

  *#published(): Iterable<RegisteredRegion> {
    for (const region of this.#deps.registry.regions()) {
      if (region.permission !== 'local-read-write') yield region;
    }
  }
}

function checkMemory(memory: unknown, name: string): asserts memory is MemoryLike {
  if (!isMemoryLike(memory)) {
    throw invalidArgument(
      name,
      memory,
      'a Buffer, a typed array, a DataView, an ArrayBuffer or a SharedArrayBuffer',
    );
  }
  if (memory.byteLength === 0) throw invalidArgument(name, 'empty', 'at least 1 byte');
}

function checkOptions(options: RegisterOptions): { location: string; permission: Permission } {
  const location = options.location ?? '*';
  if (typeof location !== 'string' || location === '') {
    throw invalidArgument('location', location, 'a text such as "*", "cpu:0" or "cuda:1"');
  }
  const permission = options.permission ?? 'global-read-write';
  if (!PERMISSIONS.includes(permission)) {
    throw invalidArgument('permission', permission, PERMISSIONS.join(', '));
  }
  return { location, permission };
}
