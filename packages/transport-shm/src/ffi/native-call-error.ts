import { getSystemErrorName } from 'node:util';

/** A system call failed; `code` is the name of its errno, as in Node's own errors. */
export class NativeCallError extends Error {
  readonly syscall: string;
  readonly errno: number;
  readonly code: string;

  constructor(syscall: string, errno: number) {
    const code = nameOf(errno);
    super(`${syscall} failed with ${code}`);
    this.name = 'NativeCallError';
    this.syscall = syscall;
    this.errno = errno;
    this.code = code;
  }
}

function nameOf(errno: number): string {
  try {
    return getSystemErrorName(-errno);
  } catch {
    return `errno ${errno}`;
  }
}

/** The name of the errno of whatever was thrown: "ENOSPC"; undefined when it has none. */
export function errnoName(thrown: unknown): string | undefined {
  const code = (thrown as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}
