import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  unlinkSync,
  write,
  type Stats,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { EngineError } from '@transfer-engine/core/transport';
import { errnoName } from '../ffi/native-call-error.ts';
import type { NativeMemory } from '../ffi/native-memory.ts';
import { objectError } from './object-error.ts';

const { O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_NOFOLLOW } = constants;
const CREATE_ATTEMPTS = 8;
const MODE = 0o600;
const ZEROS = Buffer.alloc(1024 * 1024);

const writeAt = promisify(write) as (
  fd: number,
  bytes: Uint8Array,
  offset: number,
  length: number,
  position: number,
) => Promise<{ bytesWritten: number }>;

/** An open object. Whoever has it closes `fd`. */
export interface SharedObject {
  readonly name: string;
  readonly path: string;
  readonly fd: number;
  readonly size: number;
  readonly inode: number;
  /** User id of the owner. */
  readonly owner: number;
}

/**
 * Creates an object that did not exist, with all its pages: a file system that is full fails here,
 * and not later as a signal.
 *
 * Sizes are as asked for, names as `makeName` makes them.
 * Source: Mooncake 3b5a594, tent/src/transport/shm/shm_transport.cpp (createSharedMemory).
 *
 * @throws EngineError `ERR_TE_MEMORY`
 */
export async function createObject(init: {
  readonly directory: string;
  readonly size: number;
  readonly native: NativeMemory | undefined;
  makeName(): string;
  /** Called before the object is there, so that its owner can be found in any case. */
  claim?(name: string): void;
}): Promise<SharedObject> {
  const { directory, size } = init;
  for (let attempt = 1; ; attempt += 1) {
    const name = init.makeName();
    const path = join(directory, name);
    let fd: number;
    try {
      fd = openSync(path, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW, MODE);
    } catch (error) {
      if (errnoName(error) === 'EEXIST' && attempt < CREATE_ATTEMPTS) continue;
      throw objectError('ERR_TE_MEMORY', 'cannot create', path, error);
    }
    try {
      init.claim?.(name);
      ftruncateSync(fd, size);
      if (init.native !== undefined) await init.native.allocate(fd, size);
      else await fillWithZeros(fd, size);
      const { ino, uid } = fstatSync(fd);
      return { name, path, fd, size, inode: ino, owner: uid };
    } catch (error) {
      unlinkSync(path);
      closeSync(fd);
      throw objectError('ERR_TE_MEMORY', `cannot fill ${size} bytes of`, path, error);
    }
  }
}

async function fillWithZeros(fd: number, size: number): Promise<void> {
  for (let at = 0; at < size;) {
    const length = Math.min(ZEROS.length, size - at);
    const { bytesWritten } = await writeAt(fd, ZEROS, 0, length, at);
    at += bytesWritten;
  }
}

/**
 * Opens an object that exists. Links are not followed, and it has to be a plain file of our own
 * user that nobody else may write.
 *
 * @throws EngineError under `code`
 */
export function openObject(init: {
  readonly directory: string;
  readonly name: string;
  readonly writable: boolean;
  readonly code: 'ERR_TE_MEMORY' | 'ERR_TE_CONNECT_FAILED' | 'ERR_TE_PEER_LOST';
}): SharedObject {
  const { directory, name, writable, code } = init;
  const path = join(directory, name);
  let fd: number;
  try {
    fd = openSync(path, (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW);
  } catch (error) {
    throw objectError(code, 'cannot open', path, error);
  }
  try {
    const stats = fstatSync(fd);
    const flaw = flawOf(stats);
    if (flaw === undefined) {
      return { name, path, fd, size: stats.size, inode: stats.ino, owner: stats.uid };
    }
    throw new EngineError(code, `cannot use ${path}: ${flaw}`, { details: { path } });
  } catch (error) {
    closeSync(fd);
    throw objectError(code, 'cannot open', path, error);
  }
}

function flawOf(stats: Stats): string | undefined {
  if (!stats.isFile()) return 'it is not a plain file';
  const user = process.geteuid?.() ?? stats.uid;
  if (stats.uid !== user) return `it belongs to user ${stats.uid}, and we are user ${user}`;
  if ((stats.mode & 0o022) !== 0) return 'other users may write it';
  return undefined;
}

/** Removes a name; one that is gone already is fine. */
export function removeObject(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (errnoName(error) !== 'ENOENT') throw error;
  }
}
