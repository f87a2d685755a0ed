import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.ts';
import { AddressSpace } from './address-space.ts';
import { BufferStore } from './buffer-store.ts';
import { MemoryRegistry } from './memory-registry.ts';
import type { Permission } from './permission.ts';

const make = () => new MemoryRegistry(new AddressSpace(seededRandom(1)));
const request = (
  memory: ArrayBufferView | ArrayBuffer,
  permission: Permission = 'global-read-write',
) => ({
  store: new BufferStore(memory),
  location: '*',
  permission,
});

describe('MemoryRegistry', () => {
  it('hands out page-aligned addresses that are never used twice', () => {
    const registry = make();
    const memory = Buffer.alloc(100);
    const [first] = registry.add([request(memory)]);
    expect((first?.address ?? 1) % 4096).toBe(0);
    registry.forget(first!);
    const [second] = registry.add([request(memory)]);
    expect(second?.address).toBeGreaterThan(first?.end as number);
  });

  it('resolves a range only inside one live region that permits the access', () => {
    const registry = make();
    const [open, readOnly, closed] = registry.add([
      request(new ArrayBuffer(4096)),
      request(new ArrayBuffer(4096), 'global-read-only'),
      request(new ArrayBuffer(4096), 'local-read-write'),
    ]);
    const { address } = open!;
    expect(registry.resolveRemote(address, 4096, 'write')).toBe(open);
    expect(registry.resolveRemote(address + 4095, 1, 'read')).toBe(open);
    expect(registry.resolveRemote(address + 4095, 2, 'read')).toBeUndefined();
    expect(registry.resolveRemote(address - 1, 2, 'read')).toBeUndefined();
    expect(registry.resolveRemote(address, 0, 'read')).toBeUndefined();
    expect(registry.resolveRemote(address, Number.NaN, 'read')).toBeUndefined();
    expect(registry.resolveRemote(Number.NaN, 1, 'read')).toBeUndefined();
    expect(registry.resolveRemote(address, Number.MAX_SAFE_INTEGER, 'read')).toBeUndefined();
    expect(registry.resolveRemote(readOnly!.address, 1, 'read')).toBe(readOnly);
    expect(registry.resolveRemote(readOnly!.address, 1, 'write')).toBeUndefined();
    expect(registry.resolveRemote(closed!.address, 1, 'read')).toBeUndefined();
    registry.retire(open!);
    expect(registry.resolveRemote(address, 1, 'read')).toBeUndefined();
  });

  it('does not join neighbours', () => {
    const registry = make();
    const store = () => new BufferStore(new ArrayBuffer(4096));
    const at = (address: number) => ({
      store: store(),
      location: '*',
      permission: 'global-read-write' as const,
      address,
    });
    registry.add([at(0x10000), at(0x11000)]);
    expect(registry.resolveRemote(0x10fff, 2, 'read')).toBeUndefined();
    expect(() => registry.add([at(0x10800)])).toThrow(/ERR_TE_ADDRESS_OVERLAPPED/);
    expect(registry.overlapsAddress(0x0ff00, 0x100)).toBe(false);
    expect(registry.overlapsAddress(0x0ff00, 0x101)).toBe(true);
    expect(registry.overlapsAddress(0x12000, 1)).toBe(false);
    expect(registry.overlapsAddress(0x11fff, 0)).toBe(false);
  });

  it('refuses memory that shares bytes, also while the old region is being removed', () => {
    const registry = make();
    const memory = new ArrayBuffer(8192);
    const [region] = registry.add([request(new Uint8Array(memory, 0, 4096))]);
    expect(() => registry.add([request(new Uint8Array(memory, 4095, 10))])).toThrow(/OVERLAPPED/);
    registry.add([request(new Uint8Array(memory, 4096, 10))]);
    registry.retire(region!);
    expect(() => registry.add([request(new Uint8Array(memory, 0, 1))])).toThrow(
      /still being unregistered/,
    );
    registry.forget(region!);
    registry.add([request(new Uint8Array(memory, 0, 1))]);
  });

  it('adds all of a list or none', () => {
    const registry = make();
    const memory = new ArrayBuffer(64);
    expect(() => registry.add([request(memory), request(new Uint8Array(memory, 8, 8))])).toThrow(
      /OVERLAPPED/,
    );
    expect(registry.size).toBe(0);
    expect(() => registry.add([request(memory), request(new ArrayBuffer(0))])).toThrow(
      /INVALID_ARGUMENT/,
    );
    expect(registry.size).toBe(0);
    registry.add([request(memory)]);
  });

  it('finds the region of a view by the memory itself', () => {
    const registry = make();
    const memory = new ArrayBuffer(8192);
    const [region] = registry.add([request(new Uint8Array(memory, 1024, 4096))]);
    expect(registry.resolveLocal(new Uint8Array(memory, 2048, 16))).toEqual({
      region,
      offset: 1024,
    });
    expect(registry.resolveLocal(new Uint8Array(memory, 1000, 100))).toBeUndefined();
    expect(registry.resolveLocal(new Uint8Array(16))).toBeUndefined();
  });

  it('agrees with a plain search over thousands of regions', () => {
    const registry = make();
    const regions = registry.add(
      Array.from({ length: 500 }, (_, index) => request(new ArrayBuffer(1 + (index % 97) * 50))),
    );
    fc.assert(
      fc.property(
        fc.nat(499),
        fc.integer({ min: -5000, max: 9000 }),
        fc.nat(9000),
        (pick, shift, length) => {
          const address = (regions[pick]?.address ?? 0) + shift;
          const expected = regions.find(
            (region) => length > 0 && address >= region.address && address + length <= region.end,
          );
          expect(registry.resolveRemote(address, length, 'write')).toBe(expected);
        },
      ),
      { numRuns: 2000 },
    );
  });
});
