import { ERROR_CODES, type ErrorCode } from './error-codes.ts';

/** Facts about a failure that a program may want to read; bigints are addresses. */
export type ErrorDetails = Readonly<
  Record<string, string | number | bigint | boolean | readonly (string | number)[] | undefined>
>;

export interface EngineErrorOptions {
  readonly details?: ErrorDetails;
  readonly cause?: unknown;
}

/**
 * The one error class of the product.
 *
 * `code` is stable and is what programs should test. The message starts with the code and names
 * what was tried, where, how far it came and what to do next. `details` repeats those facts as
 * values. `cause` is the error below, if there was one.
 */
export class EngineError extends Error {
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, options: EngineErrorOptions = {}) {
    super(
      `${code}: ${message}`,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.code = code;
    this.details = options.details ?? {};
    // A deadline is recognisable in the way of the platform's own AbortSignal.timeout().
    this.name = code === 'ERR_TE_TIMEOUT' ? 'TimeoutError' : 'EngineError';
  }

  /** Whether the same call can succeed later without a change of its arguments. */
  get retryable(): boolean {
    return ERROR_CODES[this.code].retryable;
  }

  /** Keeps an EngineError as it is and wraps anything else under `code`. */
  static from(thrown: unknown, code: ErrorCode = 'ERR_TE_INTERNAL', context = ''): EngineError {
    if (thrown instanceof EngineError) return thrown;
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    return new EngineError(code, context === '' ? reason : `${context}: ${reason}`, {
      cause: thrown,
    });
  }
}

/** Refuses an argument by naming it, its value and what would have been accepted. */
export function invalidArgument(name: string, value: unknown, accepted: string): EngineError {
  const shown = describeValue(value);
  return new EngineError('ERR_TE_INVALID_ARGUMENT', `${name} is ${shown}; accepted: ${accepted}`, {
    details: { argument: name, value: shown, accepted },
  });
}

function describeValue(value: unknown): string {
  if (typeof value === 'string')
    return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
  if (typeof value === 'bigint') return `${value}n`;
  if (ArrayBuffer.isView(value)) return `a ${value.constructor.name} of ${value.byteLength} bytes`;
  if (typeof value === 'object' && value !== null)
    return `an object of type ${value.constructor?.name ?? 'Object'}`;
  return String(value);
}
