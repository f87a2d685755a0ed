import { systemClock, type CancelTimer, type Clock } from '../base/clock.ts';
import { EngineError, invalidArgument } from '../base/errors.ts';
import { systemRandom, type Random } from '../base/random.ts';
import type { LeaseOptions, MetadataLease, StoreCallOptions } from './metadata-store.ts';

/** What a kind of store does for its leases. */
export interface LeaseOperations {
  put(key: string, value: string, options: StoreCallOptions | undefined): Promise<void>;
  remove(key: string, options: StoreCallOptions | undefined): Promise<void>;
  /**
   * Gives all these keys their full time again.
   *
   * @returns those that the store does not have (any more)
   */
  refresh(keys: readonly string[], options: StoreCallOptions): Promise<readonly string[]>;
}

export interface LeaseTimeSources {
  readonly clock?: Clock;
  readonly random?: Random;
}

export const LEASE_MS_MIN = 200;
export const LEASE_MS_MAX = 86_400_000;
/** Refreshments in the time of a lease: three may fail before keys are lost. */
const REFRESHES_PER_LEASE = 4;
const RETRY_MS_MAX = 1_000;

/** A lease that refreshes its keys on a timer; the operations are those of one kind of store. */
export class RefreshedLease implements MetadataLease {
  readonly #options: LeaseOptions;
  readonly #operations: LeaseOperations;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #keys = new Set<string>();
  #cancelTimer: CancelTimer | undefined;
  #refreshing = false;
  #failures = 0;
  #closed = false;

  /** @throws EngineError `ERR_TE_INVALID_ARGUMENT` */
  constructor(
    options: LeaseOptions,
    operations: LeaseOperations,
    { clock = systemClock, random = systemRandom }: LeaseTimeSources = {},
  ) {
    const { leaseMs } = options;
    if (!Number.isSafeInteger(leaseMs) || leaseMs < LEASE_MS_MIN || leaseMs > LEASE_MS_MAX) {
      throw invalidArgument(
        'leaseMs',
        leaseMs,
        `an integer from ${LEASE_MS_MIN} to ${LEASE_MS_MAX} milliseconds`,
      );
    }
    this.#options = options;
    this.#operations = operations;
    this.#clock = clock;
    this.#random = random;
  }

  async put(key: string, value: string, options?: StoreCallOptions): Promise<void> {
    this.#assertOpen('put', key);
    await this.#operations.put(key, value, options);
    if (this.#closed) return;
    this.#keys.add(key);
    if (this.#cancelTimer === undefined && !this.#refreshing) this.#schedule(this.#intervalMs());
  }

  async remove(key: string, options?: StoreCallOptions): Promise<void> {
    this.#assertOpen('remove', key);
    this.#keys.delete(key);
    await this.#operations.remove(key, options);
  }

  close(): void {
    this.#closed = true;
    this.#keys.clear();
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  /** Leases of many engines that were started together must not beat together. */
  #intervalMs(): number {
    return (this.#options.leaseMs / REFRESHES_PER_LEASE) * (0.8 + 0.2 * this.#random.float());
  }

  #retryMs(): number {
    const interval = this.#options.leaseMs / REFRESHES_PER_LEASE;
    const backOff = Math.min(RETRY_MS_MAX, interval, 100 * 2 ** Math.min(this.#failures, 10));
    return backOff * (0.5 + 0.5 * this.#random.float());
  }

  #schedule(delayMs: number): void {
    this.#cancelTimer = this.#clock.schedule(delayMs, () => {
      this.#cancelTimer = undefined;
      void this.#refresh();
    });
  }

  async #refresh(): Promise<void> {
    const keys = [...this.#keys];
    if (keys.length === 0) return;
    this.#refreshing = true;
    const timeoutMs = Math.max(LEASE_MS_MIN, this.#options.leaseMs / REFRESHES_PER_LEASE);
    try {
      const missing = await this.#operations.refresh(keys, { timeoutMs });
      this.#failures = 0;
      this.#lose(missing);
    } catch {
      // The server cannot be reached, and whoever calls the store hears of it. Once it is back, the
      // refreshment that succeeds tells what was lost.
      this.#failures += 1;
    }
    this.#refreshing = false;
    if (this.#closed || this.#keys.size === 0) return;
    this.#schedule(this.#failures === 0 ? this.#intervalMs() : this.#retryMs());
  }

  #lose(missing: readonly string[]): void {
    const lost = missing.filter((key) => this.#keys.delete(key));
    if (lost.length > 0 && !this.#closed) this.#options.onLost?.(lost);
  }

  #assertOpen(call: string, key: string): void {
    if (!this.#closed) return;
    throw new EngineError(
      'ERR_TE_CLOSED',
      `${call} of ${JSON.stringify(key)}: the lease is closed; start another one`,
      { details: { key } },
    );
  }
}
