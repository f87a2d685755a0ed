import { systemClock, type CancelTimer, type Clock } from '../base/clock.ts';
import { silentLogger, type Logger } from '../base/logger.ts';
import { systemRandom, type Random } from '../base/random.ts';
import { withinBounds } from './bounded-call.ts';
import type { MetadataLease, MetadataStore, StoreCallOptions } from './metadata-store.ts';

export interface DocumentKeeperOptions {
  readonly store: MetadataStore;
  /** For one call on the store, in milliseconds. */
  readonly timeoutMs: number;
  readonly clock?: Clock | undefined;
  readonly random?: Random | undefined;
  readonly logger?: Logger | undefined;
}

interface Kept {
  /** What the store should have; undefined before the first success and after a removal. */
  value: string | undefined;
  /** Whether the key was written, whatever became of it: it may be in the store. */
  written: boolean;
  /** Calls on one key follow each other. */
  last: Promise<void>;
  cancelRepair: CancelTimer | undefined;
  repairs: number;
}

/** Time that documents survive their engine. They are refreshed four times in it. */
export const LEASE_MS = 10_000;
/**
 * Engines that lost their documents together, because the server was restarted, write them within
 * this time, each at a moment of its own.
 */
const REPAIR_SPREAD_MS = 1_000;
const REPAIR_RETRY_MS_MAX = 2_000;
/** A try that hangs must not keep the next one waiting for long. */
const REPAIR_CALL_MS = 2_500;

/**
 * Keeps an engine's own documents in the store for as long as the engine lives.
 *
 * They are under a lease where the store has leases, so a dead engine's go away. Documents that the
 * store lost are written again; while it cannot be reached, tries go on with growing, random delays.
 */
export class DocumentKeeper {
  readonly #store: MetadataStore;
  readonly #timeoutMs: number;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #logger: Logger;
  readonly #kept = new Map<string, Kept>();
  #lease: MetadataLease | undefined;
  #closed = false;

  constructor(options: DocumentKeeperOptions) {
    this.#store = options.store;
    this.#timeoutMs = options.timeoutMs;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? systemRandom;
    this.#logger = options.logger ?? silentLogger;
  }

  /** Whether the store may have the key through us. */
  mayHave(key: string): boolean {
    return this.#kept.get(key)?.written === true;
  }

  /** Writes a document and keeps it. After a failure the one before it is kept, if there was one. */
  async put(key: string, value: string, options: StoreCallOptions): Promise<void> {
    const kept = this.#keptOf(key);
    await this.#inTurn(kept, async () => {
      kept.written = true;
      try {
        await this.#write(key, value, options);
      } catch (error) {
        // It may have arrived all the same: what counts is written over it.
        if (kept.value !== undefined) this.#scheduleRepair(key, kept);
        throw error;
      }
      kept.value = value;
      this.#settle(kept);
    });
  }

  /** Removes a document that was written; it is kept no longer, also when that fails. */
  async remove(key: string, options: StoreCallOptions): Promise<void> {
    const kept = this.#keptOf(key);
    kept.value = undefined;
    this.#settle(kept);
    await this.#inTurn(kept, async () => {
      kept.value = undefined;
      this.#settle(kept);
      if (this.#lease !== undefined) await this.#lease.remove(key, options);
      else await this.#store.remove(key, options);
      kept.written = false;
    });
  }

  /** Ends the keeping; documents that were not removed go away with their lease, or stay. */
  close(): void {
    this.#closed = true;
    this.#lease?.close();
    for (const kept of this.#kept.values()) this.#settle(kept);
  }

  #keptOf(key: string): Kept {
    const known = this.#kept.get(key);
    if (known !== undefined) return known;
    const kept: Kept = {
      value: undefined,
      written: false,
      last: Promise.resolve(),
      cancelRepair: undefined,
      repairs: 0,
    };
    this.#kept.set(key, kept);
    return kept;
  }

  #inTurn(kept: Kept, work: () => Promise<void>): Promise<void> {
    const done = kept.last.then(work);
    kept.last = done.catch(() => undefined);
    return done;
  }

  #write(key: string, value: string, options: StoreCallOptions): Promise<void> {
    this.#lease ??= this.#store.lease?.({
      leaseMs: LEASE_MS,
      onLost: (keys) => this.#onLost(keys),
    });
    const target = this.#lease ?? this.#store;
    return withinBounds(this.#store, this.#clock, key, options, (bounds) =>
      target.put(key, value, bounds),
    );
  }

  #onLost(keys: readonly string[]): void {
    for (const key of keys) {
      const kept = this.#kept.get(key);
      if (kept?.value === undefined) continue;
      this.#logger.warn({ key, store: this.#store.description }, 'the store lost a document');
      this.#scheduleRepair(key, kept);
    }
  }

  #settle(kept: Kept): void {
    kept.cancelRepair?.();
    kept.cancelRepair = undefined;
    kept.repairs = 0;
  }

  #scheduleRepair(key: string, kept: Kept): void {
    if (this.#closed || kept.cancelRepair !== undefined) return;
    const spread = REPAIR_SPREAD_MS * 2 ** Math.min(kept.repairs, 4);
    const delayMs = Math.min(REPAIR_RETRY_MS_MAX, spread) * this.#random.float();
    kept.cancelRepair = this.#clock.schedule(delayMs, () => {
      void this.#inTurn(kept, () => this.#repair(key, kept));
    });
  }

  async #repair(key: string, kept: Kept): Promise<void> {
    kept.cancelRepair = undefined;
    const { value } = kept;
    if (value === undefined || this.#closed) return;
    try {
      await this.#write(key, value, { timeoutMs: Math.min(this.#timeoutMs, REPAIR_CALL_MS) });
      this.#settle(kept);
      this.#logger.info({ key, store: this.#store.description }, 'a document was published again');
    } catch (error) {
      kept.repairs += 1;
      this.#logger.debug({ key, error }, 'a document cannot be published again yet');
      this.#scheduleRepair(key, kept);
    }
  }
}
