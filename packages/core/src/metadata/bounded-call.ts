import type { Clock } from '../base/clock.ts';
import { EngineError } from '../base/errors.ts';
import { boundedWait } from './bounded-wait.ts';
import type { MetadataStore, StoreCallOptions } from './metadata-store.ts';

/** A store that does not keep its own bound is given up this much later. */
export const GRACE_MS = 500;
const DEFAULT_TIMEOUT_MS = 5_000;

/** One call on the store, which ends in its time even if the store does not end it. */
export async function withinBounds<T>(
  store: MetadataStore,
  clock: Clock,
  key: string,
  options: StoreCallOptions,
  run: (bounds: StoreCallOptions) => Promise<T>,
): Promise<T> {
  const { signal, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  signal?.throwIfAborted();
  try {
    const work = run({ timeoutMs, ...(signal !== undefined && { signal }) });
    return await boundedWait(work, {
      signal,
      timeoutMs: timeoutMs + GRACE_MS,
      clock,
      timeoutError: () =>
        new EngineError(
          'ERR_TE_TIMEOUT',
          `the call on key "${key}" was not finished by ${store.description} within ${timeoutMs} ms`,
          { details: { store: store.description, timeoutMs } },
        ),
    });
  } catch (error) {
    if (signal?.aborted === true) throw signal.reason;
    throw EngineError.from(error, 'ERR_TE_METADATA', `${store.description}, key "${key}"`);
  }
}
