import { accessSync, closeSync, constants } from 'node:fs';
import {
  BufferStore,
  EngineError,
  invalidArgument,
  type AllocatedMemory,
  type AllocateRequest,
  type ByteStore,
  type Peer,
  type RegisteredRegion,
  type Route,
  type SegmentDraft,
  type Transport,
  type TransportHost,
} from '@transfer-engine/core/transport';
import { formatPlace, parsePlace, SHM_CAPABILITY } from './capabilities.ts';
import { RowState, type ControlRow } from './control/control-layout.ts';
import { isTouched } from './control/control-objects.ts';
import { OwnControl } from './control/own-control.ts';
import { newCounters } from './counters.ts';
import { loadNativeMemory } from './ffi/koffi-memory.ts';
import type { NativeMemory } from './ffi/native-memory.ts';
import { JobSlots } from './memory/job-slots.ts';
import { objectError } from './objects/object-error.ts';
import { checkObjectName, newMemoryName } from './objects/object-names.ts';
import { OwnObject } from './objects/own-object.ts';
import { ownIdentity, type ProcessIdentity } from './objects/process-identity.ts';
import {
  createObject,
  openObject,
  removeObject,
  type SharedObject,
} from './objects/shared-object.ts';
import { ShmRoute } from './route/shm-route.ts';
import type { ShmSettings } from './shm-options.ts';

/** Jobs of file I/O at a time; more do not make it faster. */
const JOBS = 2;
/** Longest wait for a peer that touches memory which is being withdrawn, in milliseconds. */
const DETACH_WAIT_MS = 2_000;
const DETACH_POLL_MS = 1;

/** What a started transport works with. */
interface Running {
  readonly identity: ProcessIdentity;
  readonly control: OwnControl;
}

/** Where a region lies, and what peers are told of it. */
interface Offered {
  readonly row: number;
  readonly object: OwnObject;
  readonly offset: number;
}

/** Shared memory as a transport: objects in /dev/shm that peers on the same host copy from and to. */
export class ShmTransport implements Transport {
  readonly name = 'shm';
  readonly capabilities = { needsRegisteredMemory: false };
  readonly #host: TransportHost;
  readonly #settings: ShmSettings;
  readonly #native: NativeMemory | undefined;
  readonly #jobs = new JobSlots(JOBS);
  readonly #counters = newCounters();
  readonly #routes = new Set<ShmRoute>();
  readonly #objects = new Set<OwnObject>();
  readonly #byStore = new WeakMap<ByteStore, OwnObject>();
  readonly #byMemory = new WeakMap<ArrayBufferLike, OwnObject>();
  readonly #offered = new Map<number, Offered>();
  #running: Running | undefined;
  /** Why there is no shared memory here. */
  #missing = 'the engine has not started';
  #closing: Promise<void> | undefined;

  constructor(host: TransportHost, settings: ShmSettings) {
    this.#host = host;
    this.#settings = settings;
    const { native, reason } = loadNativeMemory();
    this.#native = settings.safe ? undefined : native;
    if (native === undefined) host.logger.info({ reason }, 'shared memory is read by file I/O');
  }

  /** Where there is no shared memory the transport starts all the same, and reaches nobody. */
  async start(): Promise<void> {
    const { directory } = this.#settings;
    const identity = ownIdentity();
    if (identity === undefined) {
      this.#missing = 'this system does not identify processes (no /proc)';
    } else {
      try {
        accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
        const control = await OwnControl.create(directory, identity, this.#native);
        this.#running = { identity, control };
        return;
      } catch (error) {
        this.#missing = objectError('ERR_TE_MEMORY', 'cannot use', directory, error).message;
      }
    }
    this.#host.logger.warn({ reason: this.#missing }, 'there is no shared memory');
  }

  describe(draft: SegmentDraft): void {
    const running = this.#running;
    if (running === undefined || this.#host.strict) return;
    draft.protocols.push(this.name);
    draft.capabilities.push(SHM_CAPABILITY, formatPlace(running.control));
    for (const buffer of draft.buffers) {
      const offered = this.#offered.get(buffer.regionId);
      if (offered === undefined) continue;
      const { object, offset } = offered;
      buffer.extras['shm'] = { path: object.name, size: object.size, offset };
    }
  }

  async allocate(request: AllocateRequest): Promise<AllocatedMemory> {
    const { length, location, path, offset } = request;
    if (location !== '*' && !/^cpu:[0-9]+$/.test(location)) {
      throw invalidArgument('location', location, '"*" or "cpu:N": shared memory is in no device');
    }
    if (path === undefined && offset !== undefined && offset !== 0) {
      throw invalidArgument('shmOffset', offset, '0, or shmPath with it: a new object begins at 0');
    }
    const running = this.#require();
    const object =
      path === undefined
        ? await this.#create(running, length)
        : this.#adopt(running, checkObjectName(path), offset ?? 0, length);
    this.#objects.add(object);
    this.#byStore.set(object.store, object);
    for (const memory of object.memories) this.#byMemory.set(memory, object);
    return {
      store: object.store,
      release: () => {
        this.#release(object);
        return Promise.resolve();
      },
    };
  }

  async #create({ control, identity }: Running, length: number): Promise<OwnObject> {
    let row: number | undefined;
    try {
      const object = await createObject({
        directory: this.#settings.directory,
        size: length,
        native: this.#native,
        makeName: () => newMemoryName(identity.pid),
        claim: (name) => (row = control.claim(ownedRow(name, 0, true))),
      });
      control.change(row ?? 0, ownedRow(object.name, object.inode, true));
      return this.#own(object, { start: 0, length, row: row ?? 0, created: true });
    } catch (error) {
      if (row !== undefined) control.free(row);
      throw error;
    }
  }

  #adopt({ control }: Running, name: string, start: number, length: number): OwnObject {
    if (!Number.isSafeInteger(start) || start < 0) {
      throw invalidArgument('shmOffset', start, 'an integer of at least 0');
    }
    const { directory } = this.#settings;
    const object = openObject({ directory, name, writable: true, code: 'ERR_TE_MEMORY' });
    if (object.size < start + length) {
      closeSync(object.fd);
      throw invalidArgument(
        'shmPath',
        name,
        `an object of at least ${start + length} bytes; it has ${object.size}`,
      );
    }
    const row = control.claim(ownedRow(name, object.inode, false));
    try {
      return this.#own(object, { start, length, row, created: false });
    } catch (error) {
      control.free(row);
      throw error;
    }
  }

  #own(
    object: SharedObject,
    init: { start: number; length: number; row: number; created: boolean },
  ): OwnObject {
    try {
      return new OwnObject({ object, native: this.#native, jobs: this.#jobs, ...init });
    } catch (error) {
      closeSync(object.fd);
      if (init.created) removeObject(object.path);
      throw objectError('ERR_TE_MEMORY', 'cannot map', object.path, error);
    }
  }

  #release(object: OwnObject): void {
    if (!this.#objects.delete(object)) return;
    object.unlink();
    object.release();
    this.#running?.control.free(object.row);
  }

  attach(regions: readonly RegisteredRegion[]): Promise<void> {
    const control = this.#running?.control;
    if (control === undefined) return Promise.resolve();
    for (const region of regions) {
      const place = this.#placeOf(region);
      if (place === undefined || region.permission === 'local-read-write') continue;
      const { object, offset } = place;
      const row = control.claim({
        ...ownedRow(object.name, object.inode, false),
        state: RowState.offered,
        writable: region.permission === 'global-read-write',
        address: region.address,
        length: region.length,
        offset,
      });
      this.#offered.set(region.id, { row, object, offset });
    }
    return Promise.resolve();
  }

  /** The object that a region lies in; undefined for plain memory. */
  #placeOf({ store }: RegisteredRegion): { object: OwnObject; offset: number } | undefined {
    const allocated = this.#byStore.get(store);
    if (allocated !== undefined) return { object: allocated, offset: allocated.start };
    if (!(store instanceof BufferStore)) return undefined;
    const object = this.#byMemory.get(store.bytes.buffer);
    const offset = object?.offsetOf(store);
    return object === undefined || offset === undefined ? undefined : { object, offset };
  }

  async detach(regions: readonly RegisteredRegion[]): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    let withdrawn = false;
    for (const { id } of regions) {
      const offered = this.#offered.get(id);
      if (offered === undefined) continue;
      this.#offered.delete(id);
      running.control.free(offered.row);
      withdrawn = true;
    }
    if (withdrawn) await this.#untilUntouched(running);
  }

  /** Waits until no peer is in the middle of a copy that began before the withdrawal. */
  async #untilUntouched({ control, identity }: Running): Promise<void> {
    const { clock, logger } = this.#host;
    const { directory } = this.#settings;
    const endMs = clock.nowMs() + DETACH_WAIT_MS;
    while (isTouched(directory, control.tag, identity)) {
      if (clock.nowMs() >= endMs) {
        logger.warn({ waitedMs: DETACH_WAIT_MS }, 'a peer does not let go of withdrawn memory');
        return;
      }
      await new Promise<void>((resolve) => clock.schedule(DETACH_POLL_MS, resolve));
    }
  }

  reach(peer: Peer): Route | undefined {
    const { extras } = peer.descriptor;
    const running = this.#running;
    if (running === undefined || extras === undefined || this.#closing !== undefined)
      return undefined;
    if (bootOf(extras.host) !== bootOf(this.#host.hostIdentity)) return undefined;
    if (!extras.capabilities.includes(SHM_CAPABILITY)) return undefined;
    const place = parsePlace(extras.capabilities);
    if (place === undefined) return undefined;
    const route = new ShmRoute(
      {
        transport: this,
        host: this.#host,
        own: running.control,
        identity: running.identity,
        access: {
          directory: this.#settings.directory,
          native: this.#native,
          jobs: this.#jobs,
        },
        queueSlices: this.#settings.queueSlices,
        counters: this.#counters,
        onClosed: (closed) => this.#routes.delete(closed),
      },
      peer,
      place,
    );
    this.#routes.add(route);
    return route;
  }

  stats(): Readonly<Record<string, number>> {
    return { ...this.#counters, objects: this.#objects.size, routes: this.#routes.size };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#routes].map((route) => route.close()));
    const running = this.#running;
    if (running === undefined) return;
    this.#missing = 'the engine was closed';
    // Names first: as long as the control object is there, others can find what is left.
    for (const object of this.#objects) object.unlink();
    running.control.close();
    this.#running = undefined;
    await this.#untilUntouched(running);
  }

  #require(): Running {
    if (this.#running !== undefined) return this.#running;
    throw new EngineError(
      'ERR_TE_MEMORY',
      `there is no shared memory here: ${this.#missing}. Register plain memory instead`,
    );
  }
}

function ownedRow(name: string, inode: number, unlink: boolean): ControlRow {
  const region = { writable: false, address: 0, length: 0, offset: 0 };
  return { state: RowState.owned, unlink, name, inode, ...region };
}

/** The name of a host may differ between containers; the boot they run on is the same. */
function bootOf(host: string): string {
  return host.slice(host.lastIndexOf('/') + 1);
}
