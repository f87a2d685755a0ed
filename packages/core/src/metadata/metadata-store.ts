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
  put(key: string, value: string, options?: StoreCallOptions): Promise<void>;
  /** Removing what is not there succeeds. */
  remove(key: string, options?: StoreCallOptions): Promise<void>;
  close(): Promise<void>;
}
