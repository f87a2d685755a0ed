import type { Clock } from '../base/clock.ts';
import { EngineError } from '../base/errors.ts';
import type { MetadataStore, StoreCallOptions } from '../metadata/metadata-store.ts';
import type { Span } from './sim-network.ts';
import type { SimProcess } from './sim-process.ts';

export interface SimStoreOptions {
  /** One call, in milliseconds. Default [0.1, 3]. */
  readonly latencyMs?: Span;
  /** By call: the store does not answer. Default 0. */
  readonly hang?: number;
  /** By call: the store refuses, nothing has happened. Default 0. */
  readonly fail?: number;
  /** By call: the call had its effect, and the answer is lost. Default 0. */
  readonly answerLoss?: number;
  /** Bound of a call that has none of its own, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number;
}

/** What a store takes from the world that it is in. */
export interface SimStoreHost {
  readonly clock: Clock;
  chance(probability: number): boolean;
  draw(span: Span): number;
  note(event: string, ...facts: (string | number)[]): void;
}

/** One metadata service of a world; each engine gets a client of its own by {@link SimStore.open}. */
export class SimStore {
  readonly documents = new Map<string, string>();
  readonly #host: SimStoreHost;
  readonly #options: Required<SimStoreOptions>;
  #down = false;

  constructor(host: SimStoreHost, options: SimStoreOptions = {}) {
    this.#host = host;
    this.#options = {
      latencyMs: [0.1, 3],
      hang: 0,
      fail: 0,
      answerLoss: 0,
      timeoutMs: 5_000,
      ...options,
    };
  }

  /** While the service is down every call is refused. Documents stay. */
  setDown(down: boolean): void {
    this.#host.note(down ? 'store-down' : 'store-up');
    this.#down = down;
  }

  open(process: SimProcess): MetadataStore {
    const call = (key: string, options: StoreCallOptions | undefined, apply: () => void) =>
      this.#call(process, key, options, apply);
    const { documents } = this;
    return {
      description: 'sim',
      async get(key, options) {
        let value: string | undefined;
        await call(key, options, () => {
          value = documents.get(key);
        });
        return value;
      },
      put: (key, value, options) => call(key, options, () => void documents.set(key, value)),
      remove: (key, options) => call(key, options, () => void documents.delete(key)),
      close: () => Promise.resolve(),
    };
  }

  #call(
    process: SimProcess,
    key: string,
    options: StoreCallOptions = {},
    apply: () => void,
  ): Promise<void> {
    const host = this.#host;
    const { hang, fail, answerLoss, latencyMs, timeoutMs: standardMs } = this.#options;
    const { signal, timeoutMs = standardMs } = options;
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason as Error);
        return;
      }
      const end = (settle: () => void): void => {
        cancelAnswer();
        cancelLimit();
        signal?.removeEventListener('abort', onAbort);
        settle();
      };
      const onAbort = (): void => end(() => reject(signal?.reason as Error));
      const hangs = host.chance(hang);
      const delayMs = host.draw(latencyMs);
      const answer = (): void => {
        // The answer is lost in both directions: the caller waits until its bound.
        if (hangs) return;
        const refused = this.#down || host.chance(fail);
        if (!refused) apply();
        const lost = refused || host.chance(answerLoss);
        host.note('store', key, refused ? 2 : lost ? 1 : 0);
        const message = `the metadata store ${refused ? 'refused the call' : 'lost the answer'}`;
        const error = new EngineError('ERR_TE_METADATA', `${message} for ${key}`);
        end(() => (lost ? reject(error) : resolve()));
      };
      const timeout = (): void => {
        const message = `the metadata store did not answer within ${timeoutMs} ms (${key})`;
        end(() => reject(new EngineError('ERR_TE_TIMEOUT', message)));
      };
      // By the clock of the process: nobody who is dead writes documents.
      const cancelAnswer = process.clock.schedule(delayMs, answer);
      const cancelLimit = process.clock.schedule(timeoutMs, timeout);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}
