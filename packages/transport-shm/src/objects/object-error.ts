import { EngineError, type ErrorCode } from '@transfer-engine/core/transport';
import { errnoName } from '../ffi/native-call-error.ts';

const ADVICE: Readonly<Record<string, string>> = {
  ENOSPC: 'the file system of shared memory is full; free some of it or make it larger',
  ENOMEM: 'there is no memory or no room for another mapping',
  EDQUOT: 'the quota of shared memory is used up',
  EACCES: 'it belongs to another user, or its mode does not let us in',
  EPERM: 'it belongs to another user, or its mode does not let us in',
  ENOENT: 'it is not there: its owner has ended, or another directory of objects is mounted here',
  ELOOP: 'it is a symbolic link, and those are not followed',
  EMFILE: 'this process has too many open files',
  ENFILE: 'this machine has too many open files',
};

/** An error about an object: what was tried with which one, why it failed and what helps. */
export function objectError(
  code: ErrorCode,
  what: string,
  path: string,
  cause: unknown,
): EngineError {
  if (cause instanceof EngineError) return cause;
  const errno = errnoName(cause);
  const reason = cause instanceof Error ? cause.message : String(cause);
  const advice = errno === undefined ? undefined : ADVICE[errno];
  return new EngineError(
    code,
    `${what} ${path}: ${advice === undefined ? reason : `${advice} (${errno})`}`,
    { cause, details: { path, ...(errno === undefined ? {} : { errno }) } },
  );
}
