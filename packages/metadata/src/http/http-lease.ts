import { randomUUID } from 'node:crypto';
import type { LeaseOperations, StoreCallOptions } from '@transfer-engine/core/metadata';

/** Calls on the server that a lease needs. */
export interface HttpLeaseCalls {
  put(
    key: string,
    value: string,
    headers: Readonly<Record<string, string>>,
    options: StoreCallOptions | undefined,
  ): Promise<void>;
  remove(key: string, options: StoreCallOptions | undefined): Promise<void>;
  get(key: string, options: StoreCallOptions): Promise<string | undefined>;
  post(body: object, options: StoreCallOptions): Promise<unknown>;
  /** Whether the server said that it has leases. */
  offered(): boolean;
}

/** Larger documents are fetched seldom when all that is asked is whether they are there. */
const SMALL_CHARACTERS = 64 * 1024;
const SELDOM_ROUNDS = 16;

/**
 * A lease on our own server: every PUT names it, and one POST refreshes all its keys.
 *
 * Other servers ignore the headers, and their keys stay. There a refreshment looks whether the keys
 * are still there; when a small one is missing, the server was emptied, and so all are looked at.
 */
export class HttpLease implements LeaseOperations {
  readonly #calls: HttpLeaseCalls;
  readonly #id = randomUUID();
  readonly #headers: Readonly<Record<string, string>>;
  readonly #sizes = new Map<string, number>();
  #rounds = 0;

  constructor(leaseMs: number, calls: HttpLeaseCalls) {
    this.#calls = calls;
    this.#headers = { 'te-lease': this.#id, 'te-lease-ms': String(leaseMs) };
  }

  async put(key: string, value: string, options: StoreCallOptions | undefined): Promise<void> {
    await this.#calls.put(key, value, this.#headers, options);
    this.#sizes.set(key, value.length);
  }

  async remove(key: string, options: StoreCallOptions | undefined): Promise<void> {
    this.#sizes.delete(key);
    await this.#calls.remove(key, options);
  }

  async refresh(keys: readonly string[], options: StoreCallOptions): Promise<readonly string[]> {
    if (this.#calls.offered()) {
      const answer = await this.#calls.post({ lease: this.#id, keys }, options);
      const { missing = [] } = answer as { missing?: readonly string[] };
      return missing;
    }
    this.#rounds += 1;
    const small = keys.filter((key) => (this.#sizes.get(key) ?? 0) <= SMALL_CHARACTERS);
    const large = keys.filter((key) => !small.includes(key));
    const missing = await this.#missing(small, options);
    const thorough = missing.length > 0 || small.length === 0 || this.#rounds % SELDOM_ROUNDS === 0;
    return thorough ? [...missing, ...(await this.#missing(large, options))] : missing;
  }

  async #missing(keys: readonly string[], options: StoreCallOptions): Promise<string[]> {
    const values = await Promise.all(keys.map((key) => this.#calls.get(key, options)));
    return keys.filter((_, index) => values[index] === undefined);
  }
}
