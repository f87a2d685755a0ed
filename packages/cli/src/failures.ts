import { EngineError } from '@transfer-engine/core';

/** Exit codes of `te`; programs that drive it rely on them. */
export const ExitCode = {
  ok: 0,
  /** An operation failed: a transfer, a rejected address, a missing key, a mismatch. */
  operationFailed: 1,
  /** Nothing was tried: bad arguments, metadata unreachable, a segment that cannot be opened. */
  setUpFailed: 2,
} as const;

/** Ends a command with {@link ExitCode.setUpFailed}. */
export class SetUpFailure extends Error {
  readonly error: EngineError;

  constructor(error: EngineError) {
    super(error.message, { cause: error });
    this.name = 'SetUpFailure';
    this.error = error;
  }
}

/** Runs a part of the set-up: whatever it throws ends the command with exit code 2. */
export async function setUp<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    throw thrown instanceof SetUpFailure ? thrown : new SetUpFailure(EngineError.from(thrown));
  }
}

/** Refuses the command line. The message names the option, its value and what is accepted. */
export function usageFailure(message: string): SetUpFailure {
  return new SetUpFailure(new EngineError('ERR_TE_INVALID_ARGUMENT', message));
}

/** What error events show. The CLI has codes of its own where the engine has no failure. */
export interface ErrorReport {
  readonly code: string;
  readonly message: string;
}

export function reportOf(thrown: unknown): ErrorReport {
  const error = thrown instanceof SetUpFailure ? thrown.error : EngineError.from(thrown);
  return { code: error.code, message: error.message };
}
