import { EngineError, invalidArgument } from '../base/errors.ts';
import type { AddressSpace } from './address-space.ts';
import { BufferStore } from './buffer-store.ts';
import type { ByteStore } from './byte-store.ts';
import { permits, type Permission, type RemoteAccess } from './permission.ts';
import { RegisteredRegion } from './registered-region.ts';

export interface RegionRequest {
  readonly store: ByteStore;
  readonly location: string;
  readonly permission: Permission;
  /** A real address, when the memory has one; otherwise the registry takes a synthetic one. */
  readonly address?: number;
}

/** What a look-up of a local view found: the region and where in it the view starts. */
export interface LocalWindow {
  readonly region: RegisteredRegion;
  readonly offset: number;
}

/**
 * All registered memory of one engine, found by address and by the memory itself.
 *
 * Regions never overlap, neither in addresses nor in the memory behind them; touching is fine.
 */
export class MemoryRegistry {
  readonly #addresses: AddressSpace;
  readonly #byId = new Map<number, RegisteredRegion>();
  /** Live regions in the order of their addresses, with their addresses beside them for the search. */
  #sorted: RegisteredRegion[] = [];
  #starts: number[] = [];
  readonly #byMemory = new Map<ArrayBufferLike, RegisteredRegion[]>();
  #lastHit: RegisteredRegion | undefined;
  #nextId = 0;

  constructor(addresses: AddressSpace) {
    this.#addresses = addresses;
  }

  /** Live regions in the order of their registration. */
  *regions(): Iterable<RegisteredRegion> {
    for (const region of this.#byId.values()) if (region.live) yield region;
  }

  get size(): number {
    return this.#sorted.length;
  }

  byId(id: number): RegisteredRegion | undefined {
    const region = this.#byId.get(id);
    return region?.live === true ? region : undefined;
  }

  /**
   * Adds regions: all of them, or none.
   *
   * @throws EngineError `ERR_TE_INVALID_ARGUMENT` for an empty region, `ERR_TE_ADDRESS_OVERLAPPED`
   * when a region shares a byte with another one, also with one that is still being removed.
   */
  add(requests: readonly RegionRequest[]): RegisteredRegion[] {
    const added: RegisteredRegion[] = [];
    try {
      for (const request of requests) added.push(this.#addOne(request));
    } catch (error) {
      for (const region of added) this.forget(region);
      throw error;
    }
    return added;
  }

  /** From now on the region is not found any more; its memory stays reserved until {@link forget}. */
  retire(region: RegisteredRegion): void {
    if (!region.live) return;
    region.live = false;
    const index = this.#indexAtOrBefore(region.address);
    this.#sorted.splice(index, 1);
    this.#starts.splice(index, 1);
    if (this.#lastHit === region) this.#lastHit = undefined;
  }

  /** Ends a region for good: its memory may be registered again. */
  forget(region: RegisteredRegion): void {
    this.retire(region);
    this.#byId.delete(region.id);
    const memory = memoryOf(region.store);
    if (memory === undefined) return;
    const rest = this.#byMemory.get(memory.buffer)?.filter((other) => other !== region) ?? [];
    if (rest.length === 0) this.#byMemory.delete(memory.buffer);
    else this.#byMemory.set(memory.buffer, rest);
  }

  /**
   * Finds the region that contains all of [address, address + length) and permits the access.
   * One region must hold the whole range: neighbours are not joined (as the C++ engine rules).
   */
  resolveRemote(
    address: number,
    length: number,
    access: RemoteAccess,
  ): RegisteredRegion | undefined {
    if (!(length > 0)) return undefined;
    let region = this.#lastHit;
    if (region === undefined || !(address >= region.address && address < region.end)) {
      region = this.#sorted[this.#indexAtOrBefore(address)];
      if (region === undefined) return undefined;
      this.#lastHit = region;
    }
    // Written as a difference, because a sum could leave the exact range of numbers; and so that NaN
    // (a word that needs more than 53 bits) is refused.
    if (!(address >= region.address && length <= region.end - address)) return undefined;
    return permits(region.permission, access) ? region : undefined;
  }

  /** Finds the region that contains all bytes of a view, if there is one. */
  resolveLocal(view: ArrayBufferView): LocalWindow | undefined {
    const candidates = this.#byMemory.get(view.buffer);
    if (candidates === undefined) return undefined;
    for (const region of candidates) {
      const memory = memoryOf(region.store);
      if (!region.live || memory === undefined) continue;
      const offset = view.byteOffset - memory.byteOffset;
      if (offset >= 0 && offset + view.byteLength <= region.length) return { region, offset };
    }
    return undefined;
  }

  /** Whether [address, address + length) shares a byte with a live region; false for length 0. */
  overlapsAddress(address: number, length: number): boolean {
    if (!(length > 0)) return false;
    const before = this.#sorted[this.#indexAtOrBefore(address)];
    if (before !== undefined && before.end > address) return true;
    const after = this.#sorted[this.#indexAtOrBefore(address) + 1];
    return after !== undefined && after.address < address + length;
  }

  #addOne(request: RegionRequest): RegisteredRegion {
    const { store } = request;
    if (!(store.length > 0)) throw invalidArgument('memory', '0 bytes', 'at least 1 byte');
    const memory = memoryOf(store);
    const neighbours = memory === undefined ? [] : (this.#byMemory.get(memory.buffer) ?? []);
    for (const other of neighbours) {
      const theirs = memoryOf(other.store) as Buffer;
      const mine = memory as Buffer;
      if (
        mine.byteOffset < theirs.byteOffset + theirs.byteLength &&
        theirs.byteOffset < mine.byteOffset + mine.byteLength
      ) {
        throw new EngineError(
          'ERR_TE_ADDRESS_OVERLAPPED',
          `the memory shares bytes with region ${other.id} (${other.length} bytes at address ${other.address}` +
            `${other.live ? '' : ', which is still being unregistered'}); unregister that one first`,
          { details: { region: other.id, address: BigInt(other.address), length: other.length } },
        );
      }
    }
    const address = request.address ?? this.#addresses.reserve(store.length);
    if (!Number.isSafeInteger(address + store.length) || address <= 0) {
      throw invalidArgument('address', address, 'a range inside [1, 2^53)');
    }
    if (this.overlapsAddress(address, store.length)) {
      throw new EngineError(
        'ERR_TE_ADDRESS_OVERLAPPED',
        `the range of ${store.length} bytes at address ${address} overlaps a registered region`,
        { details: { address: BigInt(address), length: store.length } },
      );
    }
    const region = new RegisteredRegion({ ...request, id: this.#nextId, address });
    this.#nextId += 1;
    this.#byId.set(region.id, region);
    const index = this.#indexAtOrBefore(address) + 1;
    this.#sorted.splice(index, 0, region);
    this.#starts.splice(index, 0, address);
    if (memory !== undefined) this.#byMemory.set(memory.buffer, [...neighbours, region]);
    return region;
  }

  /** Index of the last region that starts at or before `address`; -1 if there is none. */
  #indexAtOrBefore(address: number): number {
    const starts = this.#starts;
    let low = 0;
    let high = starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((starts[middle] as number) <= address) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

/** The memory of this process behind a store; undefined for files and other foreign bytes. */
function memoryOf(store: ByteStore): Buffer | undefined {
  return store instanceof BufferStore ? store.bytes : undefined;
}
