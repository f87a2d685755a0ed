import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadNativeMemory } from '../ffi/koffi-memory.ts';
import { NativeCallError } from '../ffi/native-call-error.ts';
import type { NativeMemory } from '../ffi/native-memory.ts';
import { scratchDirectory } from '../testing/scratch-directory.ts';
import { checkObjectName, isControlName, newControlName, newMemoryName } from './object-names.ts';
import { createObject, openObject, removeObject } from './shared-object.ts';

const scratch = scratchDirectory();
const directory = scratch.path;
afterAll(() => scratch.remove());

const open = (name: string, writable = false) =>
  openObject({ directory, name, writable, code: 'ERR_TE_MEMORY' });

describe('names', () => {
  it('have the recorded form', () => {
    expect(newMemoryName(24041)).toMatch(/^mooncake_24041_[a-z]{8}$/);
    expect(newMemoryName(1)).not.toBe(newMemoryName(1));
    expect(isControlName(newControlName(7))).toBe(true);
    expect(isControlName(newMemoryName(7))).toBe(false);
  });

  it('of users stay inside the directory', () => {
    expect(checkObjectName('mine')).toBe('mine');
    expect(checkObjectName('/mine')).toBe('mine');
    for (const bad of ['', '/', '.', '..', 'a/b', '../x', 'a\0b', 'x'.repeat(73)]) {
      expect(() => checkObjectName(bad), JSON.stringify(bad)).toThrow(/shmPath/);
    }
  });
});

describe.each([
  ['by posix_fallocate', loadNativeMemory().native],
  ['by writing zeros', undefined],
])('objects filled %s', (_how, native) => {
  it('are private, as long as asked for, and have all their pages', async () => {
    const size = 5 * 1024 * 1024 + 3;
    const object = await createObject({
      directory,
      size,
      native,
      makeName: () => newMemoryName(9),
    });
    closeSync(object.fd);
    const { mode, size: found, blocks, ino } = statSync(object.path);
    expect(mode & 0o777).toBe(0o600);
    expect(found).toBe(size);
    expect(blocks * 512).toBeGreaterThanOrEqual(size);
    expect(ino).toBe(object.inode);
    expect(readFileSync(object.path).every((byte) => byte === 0)).toBe(true);
    removeObject(object.path);
    removeObject(object.path);
  });

  it('never take the place of another one', async () => {
    writeFileSync(join(directory, 'taken'), 'somebody else');
    const names = ['taken', 'taken', 'free'];
    const claimed: string[] = [];
    const object = await createObject({
      ...{ directory, native, size: 10 },
      makeName: () => names.shift() as string,
      claim: (name) => claimed.push(name),
    });
    closeSync(object.fd);
    expect(object.name).toBe('free');
    expect(claimed).toEqual(['free']);
    expect(readFileSync(join(directory, 'taken'), 'utf8')).toBe('somebody else');
    await expect(
      createObject({ directory, native, size: 10, makeName: () => 'taken' }),
    ).rejects.toMatchObject({ code: 'ERR_TE_MEMORY' });
    removeObject(object.path);
    removeObject(join(directory, 'taken'));
  });
});

it('an object that cannot be filled is an error, and leaves nothing behind', async () => {
  const { native } = loadNativeMemory();
  if (native === undefined) throw new Error('koffi has a binary for every platform that is tested');
  const full: NativeMemory = Object.create(native, {
    allocate: { value: () => Promise.reject(new NativeCallError('posix_fallocate', 28)) },
  }) as NativeMemory;
  const before = readdirSync(directory);
  await expect(
    createObject({ directory, native: full, size: 4096, makeName: () => newMemoryName(9) }),
  ).rejects.toMatchObject({ code: 'ERR_TE_MEMORY', details: { errno: 'ENOSPC' } });
  expect(readdirSync(directory)).toEqual(before);
});

describe('opening', () => {
  it('follows no links', () => {
    writeFileSync(join(directory, 'real'), 'x', { mode: 0o600 });
    symlinkSync(join(directory, 'real'), join(directory, 'link'));
    expect(() => open('link')).toThrow(/symbolic link/);
    const object = open('real');
    expect(object.size).toBe(1);
    closeSync(object.fd);
  });

  it('takes plain files only, which nobody else may write', () => {
    mkdirSync(join(directory, 'folder'));
    expect(() => open('folder')).toThrow(/not a plain file/);
    writeFileSync(join(directory, 'open'), 'x');
    chmodSync(join(directory, 'open'), 0o666);
    expect(() => open('open')).toThrow(/other users may write it/);
    expect(() => open('nowhere')).toThrow(/it is not there/);
  });

  it.runIf(process.geteuid?.() === 0)('takes nothing of other users, even as root', () => {
    const path = join(directory, 'foreign');
    writeFileSync(path, 'x', { mode: 0o600 });
    chownSync(path, 12345, 12345);
    expect(() => open('foreign', true)).toThrow(/belongs to user 12345/);
  });
});
