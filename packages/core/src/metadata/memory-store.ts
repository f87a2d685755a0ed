import { systemClock, type CancelTimer, type Clock } from '../base/clock.ts';
import { EngineError, invalidArgument } from '../base/errors.ts';
import type {
  LeaseOptions,
  MetadataLease,
  MetadataStore,
  MetadataWatch,
  StoreCallOptions,
  WatchListener,
} from './metadata-store.ts';
import { RefreshedLease, type LeaseTimeSources } from './refreshed-lease.ts';

/** What stores of one process share: give the same directory to several engines. */
export class MemoryDirectory {
  readonly documents = new Map<string, string>();
  readonly #clock: Clock;
  readonly #expiries = new Map<string, CancelTimer>();
  readonly #listeners = new Map<string, Set<WatchListener>>();

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  /** Writes a document that goes away after `leaseMs`, or stays. */
  write(key: string, value: string, leaseMs?: number): void {
    this.documents.set(key, value);
    this.#expire(key, leaseMs);
    for (const listener of [...(this.#listeners.get(key) ?? [])]) {
      listener({ type: 'put', key, value });
    }
  }

  /** Gives a document its time again; false when it is not there. */
  prolong(key: string, leaseMs: number): boolean {
    if (!this.documents.has(key)) return false;
    this.#expire(key, leaseMs);
    return true;
  }

  erase(key: string): void {
    this.#expire(key, undefined);
    if (!this.documents.delete(key)) return;
    for (const listener of [...(this.#listeners.get(key) ?? [])]) listener({ type: 'remove', key });
  }

  /** Loses everything, as a server that is restarted empty. */
  clear(): void {
    for (const key of [...this.documents.keys()]) this.erase(key);
  }

  watch(key: string, listener: WatchListener): () => void {
    const listeners = this.#listeners.get(key) ?? new Set();
    this.#listeners.set(key, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#listeners.get(key) === listeners)
        this.#listeners.delete(key);
    };
  }

  #expire(key: string, leaseMs: number | undefined): void {
    this.#expiries.get(key)?.();
    this.#expiries.delete(key);
    if (leaseMs === undefined) return;
    this.#expiries.set(
      key,
      this.#clock.schedule(leaseMs, () => this.erase(key)),
    );
  }
}

/**
 * A metadata store inside this process, for tests and for engines that share a process.
 *
 * Each engine closes the store it was given, so each takes a store of its own over one directory.
 */
export class MemoryStore implements MetadataStore {
  readonly description = 'memory';
  readonly #directory: MemoryDirectory;
  readonly #times: LeaseTimeSources;
  readonly #serve: () => void;
  readonly #open = new Set<{ close(): void }>();
  #closed = false;

  /** @param serve runs at every request; what it throws is the request's failure. For simulations. */
  constructor(
    directory: MemoryDirectory = new MemoryDirectory(),
    times: LeaseTimeSources = {},
    serve: () => void = () => undefined,
  ) {
    this.#directory = directory;
    this.#times = times;
    this.#serve = serve;
  }

  async get(key: string, options: StoreCallOptions = {}): Promise<string | undefined> {
    await this.#begin('get', key, options);
    return this.#directory.documents.get(key);
  }

  async put(key: string, value: string, options: StoreCallOptions = {}): Promise<void> {
    if (typeof value !== 'string') throw invalidArgument('value', value, 'a string');
    await this.#begin('put', key, options);
    this.#directory.write(key, value);
  }

  async remove(key: string, options: StoreCallOptions = {}): Promise<void> {
    await this.#begin('remove', key, options);
    this.#directory.erase(key);
  }

  async list(prefix: string, options: StoreCallOptions = {}): Promise<string[]> {
    await this.#begin('list', prefix, options, true);
    return [...this.#directory.documents.keys()].filter((key) => key.startsWith(prefix)).sort();
  }

  watch(key: string, listener: WatchListener): MetadataWatch {
    let stop: (() => void) | undefined;
    const watch = {
      close: () => {
        this.#open.delete(watch);
        stop?.();
        stop = undefined;
      },
    };
    if (this.#closed) return watch;
    this.#open.add(watch);
    stop = this.#directory.watch(key, listener);
    queueMicrotask(() => {
      if (stop !== undefined) listener({ type: 'sync', key });
    });
    return watch;
  }

  lease(options: LeaseOptions): MetadataLease {
    const { leaseMs } = options;
    const lease = new RefreshedLease(
      options,
      {
        put: async (key, value, bounds) => {
          if (typeof value !== 'string') throw invalidArgument('value', value, 'a string');
          await this.#begin('put', key, bounds);
          this.#directory.write(key, value, leaseMs);
        },
        remove: (key, bounds) => this.remove(key, bounds),
        refresh: async (keys) => {
          await Promise.resolve();
          this.#serve();
          return keys.filter((key) => !this.#directory.prolong(key, leaseMs));
        },
      },
      this.#times,
    );
    this.#open.add(lease);
    return lease;
  }

  close(): Promise<void> {
    this.#closed = true;
    for (const part of this.#open) part.close();
    this.#open.clear();
    return Promise.resolve();
  }

  /** Ends in a later turn, as any real store does. */
  async #begin(
    call: string,
    key: string,
    options: StoreCallOptions = {},
    mayBeEmpty = false,
  ): Promise<void> {
    if (typeof key !== 'string' || (key === '' && !mayBeEmpty)) {
      throw invalidArgument('key', key, 'a string of at least one character');
    }
    options.signal?.throwIfAborted();
    await Promise.resolve();
    options.signal?.throwIfAborted();
    if (this.#closed) {
      throw new EngineError(
        'ERR_TE_CLOSED',
        `${call} of ${JSON.stringify(key)}: the store is closed; open another one`,
        { details: { key } },
      );
    }
    this.#serve();
  }
}
