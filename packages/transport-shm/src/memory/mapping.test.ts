import { closeSync, ftruncateSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, describe, expect, it } from 'vitest';
import { loadNativeMemory } from '../ffi/koffi-memory.ts';
import type { NativeMemory } from '../ffi/native-memory.ts';
import { scratchDirectory } from '../testing/scratch-directory.ts';
import { LongMappedStore, MappedStore, storeOver } from './mapped-store.ts';
import { Mapping } from './mapping.ts';

const scratch = scratchDirectory();
afterAll(() => scratch.remove());

const { native } = loadNativeMemory();
if (native === undefined) throw new Error('koffi has a binary for every platform that is tested');
const memory: NativeMemory = native;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

let files = 0;
function file(length: number): number {
  files += 1;
  const fd = openSync(join(scratch.path, `file-${files}`), 'w+', 0o600);
  ftruncateSync(fd, length);
  return fd;
}

/** Addresses of the mappings of this process that hold `address`. */
function isMapped(address: number): boolean {
  return readFileSync('/proc/self/maps', 'latin1')
    .split('\n')
    .some((line) => {
      const [start, end] = (line.split(' ')[0] ?? '').split('-').map((hex) => parseInt(hex, 16));
      return start !== undefined && end !== undefined && start <= address && address < end;
    });
}

async function collect5(): Promise<void> {
  let rounds = 0;
  await collectUntil(() => (rounds += 1) > 5);
}

/** Lets the collector and its callbacks run until the condition holds. */
async function collectUntil(condition: () => boolean): Promise<void> {
  for (let round = 0; round < 200 && !condition(); round += 1) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('Mapping', () => {
  it('shows the same bytes as every other mapping of the object', () => {
    const fd = file(10_000);
    const one = Mapping.create(memory, fd, 10_000, { writable: true });
    const two = Mapping.create(memory, fd, 10_000, { writable: false });
    one.view(5000, 3).set([1, 2, 3]);
    expect([...two.view(4999, 5)]).toEqual([0, 1, 2, 3, 0]);
    one.unmapNow();
    two.unmapNow();
    expect(isMapped(one.address)).toBe(false);
    closeSync(fd);
  });

  it('reads as zeros after it was given back, and harms nobody', () => {
    const fd = file(8192);
    const mapping = Mapping.create(memory, fd, 8192, { writable: true });
    const other = Mapping.create(memory, fd, 8192, { writable: true });
    const view = mapping.view(0, 8192);
    view.fill(7);
    mapping.release();
    mapping.release();
    expect(view.every((byte) => byte === 0)).toBe(true);
    view.fill(9);
    expect(other.view(0, 8192).every((byte) => byte === 7)).toBe(true);
    ftruncateSync(fd, 0);
    expect(view[8191]).toBe(9);
    other.unmapNow();
    closeSync(fd);
  });

  it('is unmapped when the last view of it was collected, and not before', async () => {
    const fd = file(4096);
    const kept: { view: Buffer | undefined } = { view: undefined };
    const address = (() => {
      const mapping = Mapping.create(memory, fd, 4096, { writable: true });
      kept.view = mapping.view(10, 20);
      mapping.release();
      return mapping.address;
    })();
    closeSync(fd);
    await collect5();
    expect(isMapped(address)).toBe(true);
    expect(kept.view?.[0]).toBe(0);
    kept.view = undefined;
    await collectUntil(() => !isMapped(address));
    expect(isMapped(address)).toBe(false);
  });

  it('refuses an object that cannot be mapped, by the name of the error', () => {
    expect(() => Mapping.create(memory, 9999, 4096, { writable: true })).toThrow(/mmap.*EBADF/);
  });

  it('is seen through several views when it is longer than one can be', () => {
    const length = 1_000_000;
    const fd = file(length);
    const mapping = Mapping.create(memory, fd, length, { writable: true, viewBytesMax: 100_000 });
    const whole = Mapping.create(memory, fd, length, { writable: true });
    const bytes = whole.view(0, length);
    for (let index = 0; index < length; index += 1) bytes[index] = (index * 7) & 0xff;
    expect(mapping.whole).toBeUndefined();
    for (const [offset, size] of [
      [0, 1],
      [0, 100_000],
      [49_999, 100_000],
      [99_999, 2],
      [123_456, 100_000],
      [900_000, 100_000],
      [999_999, 1],
    ] as const) {
      const view = mapping.view(offset, size);
      expect(view.equals(bytes.subarray(offset, offset + size)), `${size} at ${offset}`).toBe(true);
    }
    expect(() => mapping.view(0, 100_001)).toThrow(RangeError);
    const store = storeOver(mapping, 1000, 500_000);
    expect(store).toBeInstanceOf(LongMappedStore);
    store.writeFrom(Buffer.from('crossing'), 98_996);
    expect(bytes.toString('latin1', 99_996, 100_004)).toBe('crossing');
    const target = Buffer.alloc(8);
    void store.readInto(target, 98_996);
    expect(target.toString('latin1')).toBe('crossing');
    expect(storeOver(mapping, 1000, 5000)).toBeInstanceOf(MappedStore);
    mapping.unmapNow();
    whole.unmapNow();
    closeSync(fd);
  });
});
