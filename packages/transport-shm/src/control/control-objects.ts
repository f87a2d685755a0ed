import { closeSync, readSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { isControlName, isObjectName, memoryOwner } from '../objects/object-names.ts';
import { isAlive, ownIdentity, type ProcessIdentity } from '../objects/process-identity.ts';
import { openObject, removeObject } from '../objects/shared-object.ts';
import { decodeHeader, type ControlHeader } from './control-header.ts';
import {
  ANY_TAG,
  CONTROL_BYTES,
  HAZARDS,
  HAZARDS_AT,
  HEADER_BYTES,
  ROWS,
  ROWS_USED_AT,
  ROW_BYTES,
  decodeRow,
} from './control-layout.ts';

/** What a control object of any engine holds at this moment. */
interface Snapshot {
  readonly name: string;
  readonly header: ControlHeader;
  readonly bytes: Buffer;
}

/** Names of the control objects in a directory; none when it cannot be listed. */
function controlNames(directory: string): string[] {
  try {
    return readdirSync(directory).filter(isControlName);
  } catch {
    return [];
  }
}

/** Reads the first bytes of a control object of our user; undefined when it is not one. */
function snapshot(directory: string, name: string, length: number): Snapshot | undefined {
  let fd: number;
  try {
    fd = openObject({ directory, name, writable: false, code: 'ERR_TE_MEMORY' }).fd;
  } catch {
    return undefined;
  }
  try {
    const bytes = Buffer.alloc(length);
    if (readSync(fd, bytes, 0, length, 0) !== length) return undefined;
    const header = decodeHeader(bytes);
    return header === undefined ? undefined : { name, header, bytes };
  } finally {
    closeSync(fd);
  }
}

/** Whether a living engine of this host says that it is touching memory of the one with `tag`. */
export function isTouched(directory: string, tag: number, own: ProcessIdentity): boolean {
  for (const name of controlNames(directory)) {
    const found = snapshot(directory, name, HEADER_BYTES);
    if (found === undefined || !touches(found.bytes, tag)) continue;
    const { owner } = found.header;
    if (owner.namespace === own.namespace && isAlive(owner)) return true;
  }
  return false;
}

function touches(bytes: Buffer, tag: number): boolean {
  for (let slot = 0; slot < HAZARDS; slot += 1) {
    const hazard = bytes.readUInt32LE(HAZARDS_AT + 4 * slot);
    if (hazard === tag || hazard === ANY_TAG) return true;
  }
  return false;
}

/** An object that was left behind. */
export interface StaleObject {
  readonly path: string;
  /** Process that has ended. */
  readonly pid: number;
}

/**
 * Removes the objects of engines whose processes have ended without closing them.
 *
 * An object counts only if a control object of our own user names it, and the process that this one
 * names is gone: of objects of other users, and of processes in other pid namespaces, nothing can
 * be known, and nothing is touched.
 *
 * @param options.directory where objects are; default /dev/shm
 * @param options.dryRun only says what would be removed
 * @returns what was found
 */
export function cleanStaleObjects(
  options: { readonly directory?: string; readonly dryRun?: boolean } = {},
): StaleObject[] {
  const { directory = '/dev/shm', dryRun = false } = options;
  const own = ownIdentity();
  const stale: StaleObject[] = [];
  if (own === undefined) return stale;
  for (const name of controlNames(directory)) {
    const owner = snapshot(directory, name, HEADER_BYTES)?.header.owner;
    if (owner === undefined || owner.namespace !== own.namespace || isAlive(owner)) continue;
    const found = snapshot(directory, name, CONTROL_BYTES);
    if (found === undefined) continue;
    for (const path of [...objectsOf(directory, found), join(directory, name)]) {
      stale.push({ path, pid: owner.pid });
      if (!dryRun) removeObject(path);
    }
  }
  return stale;
}

/** Objects of a dead engine that are still the ones it created. */
function objectsOf(directory: string, { bytes, header }: Snapshot): string[] {
  const used = Math.min(bytes.readUInt32LE(ROWS_USED_AT), ROWS);
  const paths = new Set<string>();
  for (let index = 0; index < used; index += 1) {
    const row = decodeRow(bytes, HEADER_BYTES + index * ROW_BYTES);
    if (row?.unlink !== true || !isObjectName(row.name)) continue;
    if (isStill(directory, row.name, row.inode)) paths.add(join(directory, row.name));
  }
  for (const name of unrecorded(directory, header.owner.pid)) paths.add(join(directory, name));
  return [...paths];
}

/** @param inode 0 when the engine ended before it could record it */
function isStill(directory: string, name: string, inode: number): boolean {
  try {
    const object = openObject({ directory, name, writable: false, code: 'ERR_TE_MEMORY' });
    closeSync(object.fd);
    return inode === 0 || object.inode === inode;
  } catch {
    return false;
  }
}

/** Objects that the process had created, but not recorded yet: they are empty. */
function unrecorded(directory: string, pid: number): string[] {
  return readdirSync(directory).filter((name) => {
    if (memoryOwner(name) !== pid) return false;
    try {
      const object = openObject({ directory, name, writable: false, code: 'ERR_TE_MEMORY' });
      closeSync(object.fd);
      return object.size === 0;
    } catch {
      return false;
    }
  });
}
