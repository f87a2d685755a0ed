import type { LeaseOperations, StoreCallOptions } from '@transfer-engine/core/metadata';

/** Calls on etcd that a lease needs; ids are decimal. */
export interface EtcdLeaseCalls {
  grant(seconds: number, options: StoreCallOptions | undefined): Promise<string>;
  /** False when the server does not know the lease (any more). */
  keepAlive(id: string, options: StoreCallOptions): Promise<boolean>;
  put(key: string, value: string, id: string, options: StoreCallOptions | undefined): Promise<void>;
  remove(key: string, options: StoreCallOptions | undefined): Promise<void>;
  present(key: string, options: StoreCallOptions): Promise<boolean>;
}

/** One lease of etcd for all keys of a lease of ours; a new one when the server lost it. */
export class EtcdLease implements LeaseOperations {
  readonly #seconds: number;
  readonly #calls: EtcdLeaseCalls;
  #id: Promise<string> | undefined;

  constructor(leaseMs: number, calls: EtcdLeaseCalls) {
    this.#seconds = Math.max(1, Math.ceil(leaseMs / 1000));
    this.#calls = calls;
  }

  async put(key: string, value: string, options: StoreCallOptions | undefined): Promise<void> {
    const id = this.#grant(options);
    try {
      await this.#calls.put(key, value, await id, options);
    } catch (error) {
      if (!isLeaseLost(error)) throw error;
      // The server was restarted since the last refreshment.
      if (this.#id === id) this.#id = undefined;
      await this.#calls.put(key, value, await this.#grant(options), options);
    }
  }

  remove(key: string, options: StoreCallOptions | undefined): Promise<void> {
    return this.#calls.remove(key, options);
  }

  /** The lease says nothing about keys that somebody removed: they are looked for. */
  async refresh(keys: readonly string[], options: StoreCallOptions): Promise<readonly string[]> {
    const id = this.#id;
    if (id === undefined) return keys;
    if (!(await this.#calls.keepAlive(await id, options))) {
      if (this.#id === id) this.#id = undefined;
      return keys;
    }
    const present = await Promise.all(keys.map((key) => this.#calls.present(key, options)));
    return keys.filter((_, index) => present[index] === false);
  }

  #grant(options: StoreCallOptions | undefined): Promise<string> {
    if (this.#id !== undefined) return this.#id;
    const id = this.#calls.grant(this.#seconds, options);
    this.#id = id;
    id.catch(() => {
      if (this.#id === id) this.#id = undefined;
    });
    return id;
  }
}

function isLeaseLost(error: unknown): boolean {
  return error instanceof Error && /lease not found|is expired or revoked/i.test(error.message);
}
