import {
  EngineError,
  invalidArgument,
  type StoreCallOptions,
} from '@transfer-engine/core/metadata';
import { CallDeadline } from './call-deadline.ts';

export interface StoreCallsOptions {
  /** Of the store, without credentials. */
  readonly description: string;
  /** For one call, unless the call says, in milliseconds. */
  readonly timeoutMs: number;
  /** What the user should look at when this failed. */
  readonly advice: (error: unknown) => string;
}

/**
 * What calls on every kind of server have in common: checks of arguments, one bound for everything,
 * one style of errors, and an end when the store is closed.
 */
export class StoreCalls {
  readonly #options: StoreCallsOptions;
  readonly #running = new Set<CallDeadline>();
  #closed = false;

  constructor(options: StoreCallsOptions) {
    positiveInteger('timeoutMs', options.timeoutMs);
    this.#options = options;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Runs one call; the work's own end does not matter any more once the bound has ended it. */
  async run<T>(
    call: string,
    key: string,
    options: StoreCallOptions | undefined,
    work: (signal: AbortSignal, timeoutMs: number) => Promise<T>,
  ): Promise<T> {
    if (call !== 'list' || key !== '') checkKey(key);
    if (this.#closed) throw this.#closedError(call, key);
    const timeoutMs = options?.timeoutMs ?? this.#options.timeoutMs;
    if (!(timeoutMs > 0)) throw invalidArgument('timeoutMs', timeoutMs, 'more than 0');
    const deadline = new CallDeadline(options?.signal, timeoutMs, () =>
      this.#timeoutError(call, key, timeoutMs),
    );
    const { signal } = deadline;
    this.#running.add(deadline);
    try {
      signal.throwIfAborted();
      return await untilAborted(work(signal, timeoutMs), signal);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (error instanceof EngineError) throw error;
      throw this.#failed(call, key, error);
    } finally {
      this.#running.delete(deadline);
      deadline.end();
    }
  }

  /** Ends running calls with `ERR_TE_CLOSED`, and refuses later ones. */
  close(): void {
    this.#closed = true;
    for (const deadline of this.#running) deadline.abort(this.#closedError('a call', ''));
  }

  #failed(call: string, key: string, cause: unknown): EngineError {
    const { description, advice } = this.#options;
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new EngineError(
      'ERR_TE_METADATA',
      `${call} of key "${key}" at ${description} failed (${reason}); ${advice(cause)}`,
      { cause, details: { store: description, key, call } },
    );
  }

  #timeoutError(call: string, key: string, timeoutMs: number): EngineError {
    const { description } = this.#options;
    return new EngineError(
      'ERR_TE_TIMEOUT',
      `${call} of key "${key}" was not answered by ${description} within ${timeoutMs} ms; check ` +
        'that the metadata server runs and can be reached',
      { details: { store: description, key, call, timeoutMs } },
    );
  }

  #closedError(call: string, key: string): EngineError {
    const { description } = this.#options;
    return new EngineError('ERR_TE_CLOSED', `${call}: the store ${description} was closed`, {
      details: { store: description, key },
    });
  }
}

/** @throws EngineError `ERR_TE_INVALID_ARGUMENT` */
export function checkKey(key: string): void {
  if (typeof key !== 'string' || key === '')
    throw invalidArgument('metadata key', key, 'a text of at least one character');
  if (/[\ud800-\udfff]/u.test(key))
    throw invalidArgument('metadata key', key, 'well-formed Unicode (no lone surrogates)');
}

/** @throws EngineError `ERR_TE_INVALID_ARGUMENT` */
export function positiveInteger(name: string, value: number): number {
  if (!Number.isSafeInteger(value) || value <= 0)
    throw invalidArgument(name, value, 'a positive integer');
  return value;
}

function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
