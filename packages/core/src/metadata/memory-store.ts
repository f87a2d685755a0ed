import { EngineError, invalidArgument } from '../base/errors.ts';
import type { MetadataStore, StoreCallOptions } from './metadata-store.ts';

/** What stores of one process share: give the same directory to several engines. */
export class MemoryDirectory {
  readonly documents = new Map<string, string>();
}

/**
 * A metadata store inside this process, for tests and for engines that share a process.
 *
 * Each engine closes the store it was given, so each takes a store of its own over one directory.
 */
export class MemoryStore implements MetadataStore {
  readonly description = 'memory';
  readonly #documents: Map<string, string>;
  #closed = false;

  constructor(directory: MemoryDirectory = new MemoryDirectory()) {
    this.#documents = directory.documents;
  }

  async get(key: string, options: StoreCallOptions = {}): Promise<string | undefined> {
    await this.#begin('get', key, options);
    return this.#documents.get(key);
  }

  async put(key: string, value: string, options: StoreCallOptions = {}): Promise<void> {
    if (typeof value !== 'string') throw invalidArgument('value', value, 'a string');
    await this.#begin('put', key, options);
    this.#documents.set(key, value);
  }

  async remove(key: string, options: StoreCallOptions = {}): Promise<void> {
    await this.#begin('remove', key, options);
    this.#documents.delete(key);
  }

  close(): Promise<void> {
    this.#closed = true;
    return Promise.resolve();
  }

  /** Ends in a later turn, as any real store does. */
  async #begin(call: string, key: string, options: StoreCallOptions): Promise<void> {
    if (typeof key !== 'string' || key === '') {
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
  }
}
