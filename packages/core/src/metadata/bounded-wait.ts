import type { Clock } from '../base/clock.ts';
import type { EngineError } from '../base/errors.ts';

export interface WaitBounds {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs: number;
  readonly clock: Clock;
  timeoutError(): EngineError;
}

/**
 * Waits for a promise, but not for ever. The work behind the promise goes on when the wait ends;
 * its late failure is nobody's.
 */
export function boundedWait<T>(work: Promise<T>, bounds: WaitBounds): Promise<T> {
  const { signal, timeoutMs, clock } = bounds;
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => finish(() => reject(signal?.reason as Error));
    const cancelTimer = clock.schedule(timeoutMs, () =>
      finish(() => reject(bounds.timeoutError())),
    );
    const finish = (settle: () => void): void => {
      cancelTimer();
      signal?.removeEventListener('abort', onAbort);
      settle();
    };
    work.then(
      (value) => finish(() => resolve(value)),
      (error: unknown) => finish(() => reject(error)),
    );
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  });
}
