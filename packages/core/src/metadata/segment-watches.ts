import { systemClock, type CancelTimer, type Clock } from '../base/clock.ts';
import { systemRandom, type Random } from '../base/random.ts';
import { metadataKeys, type MetadataKeys } from '../wire/metadata-keys.ts';
import type { MetadataStore, WatchEvent } from './metadata-store.ts';

export interface SegmentWatchesOptions {
  readonly store: MetadataStore;
  readonly clusterId?: string;
  readonly clock?: Clock;
  readonly random?: Random;
}

/**
 * Segments that are watched at most. Beyond, a restart is noticed when the peer is needed: a
 * thousand engines that know each other would be a million watches for their server.
 */
const WATCHES_MAX = 256;
/** Changes come in groups: a place, a document, one more for every registration. */
const GATHER_MS = 100;
/** After an interruption everything may have changed, for everybody: looks are spread. */
const SYNC_SPREAD_MS = 2_000;

/** Hints of the store that segments changed, gathered and spread. */
export class SegmentWatches {
  readonly #store: MetadataStore;
  readonly #keys: MetadataKeys;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #open = new Set<() => void>();

  constructor(options: SegmentWatchesOptions) {
    this.#store = options.store;
    this.#keys = metadataKeys(options.clusterId);
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? systemRandom;
  }

  add(name: string, onChange: () => void): () => void {
    if (this.#store.watch === undefined || this.#open.size >= WATCHES_MAX) return () => undefined;
    let cancelTimer: CancelTimer | undefined;
    let synced = false;
    let lastValue: string | undefined;
    const onEvent = ({ type, value }: WatchEvent): void => {
      // Who removed its document is gone, or will be back with another one.
      if (type === 'remove' || cancelTimer !== undefined) return;
      if (type === 'sync' && !synced) {
        synced = true;
        return;
      }
      // An engine whose document was lost wrote the same again.
      if (type === 'put' && value !== undefined && value === lastValue) return;
      if (type === 'put') lastValue = value;
      const spreadMs = type === 'sync' ? SYNC_SPREAD_MS : GATHER_MS;
      const delayMs = GATHER_MS / 2 + spreadMs * this.#random.float();
      cancelTimer = this.#clock.schedule(delayMs, () => {
        cancelTimer = undefined;
        onChange();
      });
    };
    const watch = this.#store.watch(this.#keys.segment(name), onEvent);
    const close = (): void => {
      this.#open.delete(close);
      cancelTimer?.();
      watch.close();
    };
    this.#open.add(close);
    return close;
  }

  close(): void {
    for (const close of this.#open) close();
  }
}
