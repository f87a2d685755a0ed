/**
 * What a server does with a PUT on an `rpc_meta` key that exists: store it (`allow`, as the Go
 * server), answer 400 (`refuse`, as the Python server), or answer 400 only when the value differs
 * (`refuse-changes`, as the C++ server).
 */
export type RpcMetaOverwrite = 'allow' | 'refuse' | 'refuse-changes';

export interface DocumentTableOptions {
  readonly rpcMetaOverwrite: RpcMetaOverwrite;
  readonly maxKeys: number;
  readonly maxTotalBytes: number;
}

export type StoreOutcome = 'stored' | 'refused' | 'full';

/** Names a lease, which its owner made up, and how long it lasts without a refreshment. */
export interface LeaseTerms {
  readonly id: string;
  readonly leaseMs: number;
}

export interface StoredDocument {
  readonly value: Buffer;
  /** Id of the lease that the document goes with. */
  readonly lease: string | undefined;
}

export type Change =
  | { readonly type: 'put'; readonly key: string; readonly document: StoredDocument }
  | { readonly type: 'remove'; readonly key: string };

export interface DocumentTableListeners {
  onChange(change: Change): void;
  /** A document is removed because its lease is over; its change is told apart. */
  onExpiry(key: string): void;
}

interface Lease {
  readonly leaseMs: number;
  readonly timer: NodeJS.Timeout;
  readonly keys: Set<string>;
}

/** The documents of a metadata server, in memory and bounded. Values are kept byte for byte. */
export class DocumentTable {
  readonly #options: DocumentTableOptions;
  readonly #listeners: DocumentTableListeners;
  readonly #documents = new Map<string, StoredDocument>();
  readonly #leases = new Map<string, Lease>();
  #totalBytes = 0;

  constructor(options: DocumentTableOptions, listeners: DocumentTableListeners) {
    this.#options = options;
    this.#listeners = listeners;
  }

  get size(): number {
    return this.#documents.size;
  }

  get totalBytes(): number {
    return this.#totalBytes;
  }

  get(key: string): Buffer | undefined {
    return this.#documents.get(key)?.value;
  }

  *entries(): Iterable<readonly [key: string, value: Buffer, lease: LeaseTerms | undefined]> {
    for (const [key, { value, lease }] of this.#documents) {
      const leaseMs = lease === undefined ? undefined : this.#leases.get(lease)?.leaseMs;
      const terms =
        lease === undefined || leaseMs === undefined ? undefined : { id: lease, leaseMs };
      yield [key, value, terms];
    }
  }

  keys(prefix: string): string[] {
    return [...this.#documents.keys()].filter((key) => key.startsWith(prefix)).sort();
  }

  put(key: string, value: Buffer, lease?: LeaseTerms): StoreOutcome {
    const present = this.#documents.get(key);
    if (present !== undefined && this.#refuses(key, present.value, value)) return 'refused';
    const keyBytes = present === undefined ? Buffer.byteLength(key) : 0;
    const totalBytes = this.#totalBytes + keyBytes + value.length - (present?.value.length ?? 0);
    if (totalBytes > this.#options.maxTotalBytes) return 'full';
    if (present === undefined && this.#documents.size >= this.#options.maxKeys) return 'full';
    this.restore(key, value, lease);
    return 'stored';
  }

  /** Stores what was stored before: rules and bounds were looked at then. */
  restore(key: string, value: Buffer, lease: LeaseTerms | undefined): void {
    const present = this.#documents.get(key);
    this.#leave(key, present);
    const document: StoredDocument = { value, lease: lease?.id };
    this.#documents.set(key, document);
    const keyBytes = present === undefined ? Buffer.byteLength(key) : 0;
    this.#totalBytes += keyBytes + value.length - (present?.value.length ?? 0);
    if (lease !== undefined) this.#join(key, lease);
    this.#listeners.onChange({ type: 'put', key, document });
  }

  /** Whether there was something to remove. */
  remove(key: string): boolean {
    const present = this.#documents.get(key);
    if (present === undefined) return false;
    this.#documents.delete(key);
    this.#totalBytes -= present.value.length + Buffer.byteLength(key);
    this.#leave(key, present);
    this.#listeners.onChange({ type: 'remove', key });
    return true;
  }

  /** Gives a lease its full time again. Returns those of the keys that are not here. */
  refresh(id: string, keys: readonly string[]): string[] {
    this.#leases.get(id)?.timer.refresh();
    return keys.filter((key) => !this.#documents.has(key));
  }

  close(): void {
    for (const { timer } of this.#leases.values()) clearTimeout(timer);
    this.#leases.clear();
  }

  #join(key: string, { id, leaseMs }: LeaseTerms): void {
    const known = this.#leases.get(id);
    if (known?.leaseMs === leaseMs) {
      known.keys.add(key);
      known.timer.refresh();
      return;
    }
    clearTimeout(known?.timer);
    const timer = setTimeout(() => this.#expire(id), leaseMs);
    timer.unref();
    this.#leases.set(id, { leaseMs, timer, keys: new Set(known?.keys).add(key) });
  }

  #leave(key: string, document: StoredDocument | undefined): void {
    if (document?.lease === undefined) return;
    const lease = this.#leases.get(document.lease);
    lease?.keys.delete(key);
    if (lease === undefined || lease.keys.size > 0) return;
    clearTimeout(lease.timer);
    this.#leases.delete(document.lease);
  }

  #expire(id: string): void {
    for (const key of [...(this.#leases.get(id)?.keys ?? [])]) {
      this.remove(key);
      this.#listeners.onExpiry(key);
    }
  }

  /** Field servers recognise the key by these letters anywhere in it; so do we. */
  #refuses(key: string, present: Buffer, value: Buffer): boolean {
    if (this.#options.rpcMetaOverwrite === 'allow' || !key.includes('rpc_meta')) return false;
    return this.#options.rpcMetaOverwrite === 'refuse' || !present.equals(value);
  }
}
