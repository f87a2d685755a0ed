import type { CancelTimer, Clock } from '@transfer-engine/core/transport';

/**
 * One timer for a deadline that moves all the time. It is not moved along; when it fires, it asks
 * how long there is still to wait.
 */
export class LazyTimer {
  readonly #clock: Clock;
  readonly #check: () => number;
  #cancel: CancelTimer | undefined;

  /** @param check returns the milliseconds until the next check; 0 or less for none */
  constructor(clock: Clock, check: () => number) {
    this.#clock = clock;
    this.#check = check;
  }

  /** Sees to it that there is a check, in `delayMs` if there is none yet. */
  ensure(delayMs: number): void {
    this.#cancel ??= this.#clock.schedule(Math.max(1, Math.ceil(delayMs)), () => this.#fire());
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #fire(): void {
    this.#cancel = undefined;
    const delayMs = this.#check();
    if (delayMs > 0) this.ensure(delayMs);
  }
}
