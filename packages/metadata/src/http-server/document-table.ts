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

/** The documents of a metadata server, in memory and bounded. Values are kept byte for byte. */
export class DocumentTable {
  readonly #options: DocumentTableOptions;
  readonly #documents = new Map<string, Buffer>();
  #totalBytes = 0;

  constructor(options: DocumentTableOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#documents.size;
  }

  get totalBytes(): number {
    return this.#totalBytes;
  }

  get(key: string): Buffer | undefined {
    return this.#documents.get(key);
  }

  put(key: string, value: Buffer): StoreOutcome {
    const present = this.#documents.get(key);
    if (present !== undefined && this.#refuses(key, present, value)) return 'refused';
    const keyBytes = present === undefined ? Buffer.byteLength(key) : 0;
    const totalBytes = this.#totalBytes + keyBytes + value.length - (present?.length ?? 0);
    if (totalBytes > this.#options.maxTotalBytes) return 'full';
    if (present === undefined && this.#documents.size >= this.#options.maxKeys) return 'full';
    this.#documents.set(key, value);
    this.#totalBytes = totalBytes;
    return 'stored';
  }

  /** Whether there was something to remove. */
  remove(key: string): boolean {
    const present = this.#documents.get(key);
    if (present === undefined) return false;
    this.#documents.delete(key);
    this.#totalBytes -= present.length + Buffer.byteLength(key);
    return true;
  }

  /** Field servers recognise the key by these letters anywhere in it; so do we. */
  #refuses(key: string, present: Buffer, value: Buffer): boolean {
    if (this.#options.rpcMetaOverwrite === 'allow' || !key.includes('rpc_meta')) return false;
    return this.#options.rpcMetaOverwrite === 'refuse' || !present.equals(value);
  }
}
