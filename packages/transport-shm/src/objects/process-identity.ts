import { readFileSync, readlinkSync } from 'node:fs';

/** What tells one process from another that got its number later, or has it elsewhere. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks from the boot to the start of the process. */
  readonly startTime: number;
  /** Number of the pid namespace: the same pid means another process in another one. */
  readonly namespace: number;
}

/** @returns undefined where the system does not say (not Linux, or no /proc) */
export function ownIdentity(): ProcessIdentity | undefined {
  const state = readState(process.pid);
  const namespace = ownNamespace();
  if (state === undefined || namespace === undefined) return undefined;
  return { pid: process.pid, startTime: state.startTime, namespace };
}

function ownNamespace(): number | undefined {
  try {
    // "pid:[4026531836]"
    const digits = /[0-9]+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0];
    return digits === undefined ? undefined : Number(digits);
  } catch {
    return undefined;
  }
}

/** Whether a process of our own pid namespace is still the one that was meant, and runs. */
export function isAlive({ pid, startTime }: ProcessIdentity): boolean {
  if (!exists(pid)) return false;
  const state = readState(pid);
  // Hidden from us (hidepid): that it exists must do.
  if (state === undefined) return exists(pid);
  return state.startTime === startTime && state.letter !== 'Z' && state.letter !== 'X';
}

/** Whether there is a process of this number: a call of half a microsecond. */
export function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function readState(pid: number): { letter: string; startTime: number } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The name of the program is in parentheses and may hold anything; fields 3 and 22 are wanted.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const letter = fields[0];
  const startTime = Number(fields[19]);
  return letter === undefined || !Number.isFinite(startTime) ? undefined : { letter, startTime };
}
