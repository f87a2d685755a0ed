/** Options of one call on a store; `signal` ends the wait, not necessarily the effect. */
export interface StoreCallOptions {
  readonly signal?: AbortSignal;
  /** Milliseconds; a store has a finite default of its own. */
  readonly timeoutMs?: number;
}

/**
 * A directory of documents by key, shared by all engines of a cluster.
 *
 * Keys and values are text. Every call either has its effect, or rejects with an `EngineError`
 * (`ERR_TE_METADATA` when the store cannot be reached or refuses, `ERR_TE_TIMEOUT` when it does
 * not answer in time), and always ends within its bound.
 *
 * `get`, `put` and `remove` are what every engine needs. The other three are there when this kind of
 * store has them; where that depends on the server, calls reject with `ERR_TE_NOT_IMPLEMENTED`.
 */
export interface MetadataStore {
  /** For messages and logs, without credentials: "http://127.0.0.1:8080/metadata". */
  readonly description: string;
  /**
   * Whether documents end with a newline in this kind of store, as C++ writes them (etcd and redis:
   * yes; HTTP: no). Default no.
   */
  readonly trailingNewline?: boolean;
  /** The value, or undefined when there is none. */
  get(key: string, options?: StoreCallOptions): Promise<string | undefined>;
  /** Writes a key that stays until it is removed. */
  put(key: string, value: string, options?: StoreCallOptions): Promise<void>;
  /** Removing what is not there succeeds. */
  remove(key: string, options?: StoreCallOptions): Promise<void>;
  /** Keys that start with a prefix, sorted by code units; the empty prefix means all. */
  list?(prefix: string, options?: StoreCallOptions): Promise<string[]>;
  /** Reports changes of one key until it is closed; see {@link WatchEvent}. Never throws. */
  watch?(key: string, listener: WatchListener): MetadataWatch;
  /** Starts a lease. Nothing is sent before the first `put` under it. */
  lease?(options: LeaseOptions): MetadataLease;
  /** Ends leases and watches, too: leased keys stay for the rest of their time. */
  close(): Promise<void>;
}

/**
 * What happened to a watched key.
 *
 * `sync` says that changes are reported from now on: first when the watch has been set up, then
 * whenever it was set up again after an interruption, during which changes may have been missed.
 * Of several changes in a row the earlier ones may be left out, and one may be told twice.
 */
export interface WatchEvent {
  readonly type: 'sync' | 'put' | 'remove';
  readonly key: string;
  /** The new value, where the store sends it along. */
  readonly value?: string;
}

export type WatchListener = (event: WatchEvent) => void;

export interface MetadataWatch {
  /** No event comes after this call. Idempotent. */
  close(): void;
}

export interface LeaseOptions {
  /** Time that keys survive their last refreshment, in milliseconds; stores round it up. */
  readonly leaseMs: number;
  /**
   * Called with keys of this lease that the store does not have any more, by expiry, restart or
   * removal. They are no part of the lease from then on; put them again to get them back.
   */
  readonly onLost?: (keys: readonly string[]) => void;
}

/**
 * Keys that go away by themselves soon after their writer has.
 *
 * The store refreshes them until the lease or the store is closed, and goes on trying while the
 * server cannot be reached. Calls have the errors of the store's own.
 */
export interface MetadataLease {
  put(key: string, value: string, options?: StoreCallOptions): Promise<void>;
  remove(key: string, options?: StoreCallOptions): Promise<void>;
  /** Ends the refreshing: keys that were not removed go away when their time is over. Idempotent. */
  close(): void;
}
