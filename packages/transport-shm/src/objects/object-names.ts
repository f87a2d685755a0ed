import { randomInt } from 'node:crypto';
import { invalidArgument } from '@transfer-engine/core/transport';

const LETTERS = 8;

function randomLetters(): string {
  let letters = '';
  while (letters.length < LETTERS) letters += String.fromCharCode(97 + randomInt(26));
  return letters;
}

/**
 * A name for an object with memory in it: process and eight random letters.
 *
 * Source: Mooncake 3b5a594, tent/src/transport/shm/shm_transport.cpp (createSharedMemory).
 */
export function newMemoryName(pid: number): string {
  return `mooncake_${pid}_${randomLetters()}`;
}

/** The process that a name made by {@link newMemoryName} tells of; undefined for other names. */
export function memoryOwner(name: string): number | undefined {
  const pid = /^mooncake_([1-9][0-9]{0,9})_[a-z]{8}$/.exec(name)?.[1];
  return pid === undefined ? undefined : Number(pid);
}

/** A name for the object by which the engines of a host find each other. */
export function newControlName(pid: number): string {
  return `transfer_engine_${pid}_${randomLetters()}`;
}

const CONTROL_NAME = /^transfer_engine_[1-9][0-9]{0,9}_[a-z]{8}$/;

export function isControlName(name: string): boolean {
  return CONTROL_NAME.test(name);
}

/** Longest name that has room in a row of the control object, in bytes. */
export const NAME_BYTES_MAX = 72;

/** Whether a name stays inside the directory of objects. */
export function isObjectName(name: string): boolean {
  return (
    name !== '' &&
    name !== '.' &&
    name !== '..' &&
    !name.includes('/') &&
    !name.includes('\0') &&
    Buffer.byteLength(name) <= NAME_BYTES_MAX
  );
}

/** Checks a name that a user gave; a slash in front is accepted, as shm_open(3) does. */
export function checkObjectName(given: string): string {
  const name = given.startsWith('/') ? given.slice(1) : given;
  if (isObjectName(name)) return name;
  throw invalidArgument(
    'shmPath',
    given,
    `a name of at most ${NAME_BYTES_MAX} bytes without slashes`,
  );
}
