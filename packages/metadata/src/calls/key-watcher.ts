import type { MetadataWatch, WatchEvent, WatchListener } from '@transfer-engine/core/metadata';

export interface FeedEvents {
  /** Changes are told from now on. */
  ready(): void;
  change(event: WatchEvent): void;
}

/**
 * Tells of changes of these keys until the signal aborts.
 *
 * Settles when it is over: after the signal, or when the connection was lost.
 */
export type Feed = (
  keys: readonly string[],
  events: FeedEvents,
  signal: AbortSignal,
) => Promise<void>;

/** Thrown by a feed where the server offers none: the next try is a long time away. */
export class NoFeed extends Error {}

interface RunningFeed {
  readonly keys: ReadonlySet<string>;
  readonly controller: AbortController;
  ready: boolean;
}

/** Watches that are asked for together share one feed. */
const GATHER_MS = 5;
const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 2_000;
const NO_FEED_RETRY_MS = 30_000;

/**
 * All watches of a store over one feed, which is set up again when it breaks.
 *
 * When keys are added, a feed with all of them is set up before the old one is ended, so nothing is
 * missed in between. Delays between tries grow and are random: a thousand engines whose server was
 * restarted do not come back at once.
 */
export class KeyWatcher {
  readonly #feed: Feed;
  readonly #listeners = new Map<string, Set<WatchListener>>();
  #current: RunningFeed | undefined;
  #next: RunningFeed | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #closed = false;

  constructor(feed: Feed) {
    this.#feed = feed;
  }

  watch(key: string, listener: WatchListener): MetadataWatch {
    // A function of its own: the same listener may be given twice.
    const own: WatchListener = (event) => listener(event);
    const close = (): void => {
      const listeners = this.#listeners.get(key);
      if (listeners?.delete(own) !== true || listeners.size > 0) return;
      this.#listeners.delete(key);
      if (this.#listeners.size === 0) this.#endFeeds();
    };
    if (this.#closed) return { close };
    this.#listeners.set(key, (this.#listeners.get(key) ?? new Set()).add(own));
    if (this.#current?.ready === true && this.#current.keys.has(key)) {
      queueMicrotask(() => {
        if (this.#listeners.get(key)?.has(own) === true) own({ type: 'sync', key });
      });
    } else if (this.#failures === 0) {
      this.#renewIn(GATHER_MS);
    }
    return { close };
  }

  close(): void {
    this.#closed = true;
    this.#listeners.clear();
    this.#endFeeds();
  }

  #endFeeds(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#failures = 0;
    for (const feed of [this.#current, this.#next]) feed?.controller.abort();
    this.#current = undefined;
    this.#next = undefined;
  }

  #renewIn(ms: number): void {
    if (this.#timer !== undefined || this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#listeners.size > 0) this.#renew();
    }, ms);
    this.#timer.unref();
  }

  #renew(): void {
    this.#next?.controller.abort();
    const keys = [...this.#listeners.keys()];
    const running: RunningFeed = {
      keys: new Set(keys),
      controller: new AbortController(),
      ready: false,
    };
    this.#next = running;
    const { signal } = running.controller;
    const events: FeedEvents = {
      ready: () => {
        if (!signal.aborted) this.#onReady(running);
      },
      change: (event) => {
        if (!signal.aborted) this.#tell(event);
      },
    };
    this.#feed(keys, events, signal)
      .then(
        () => undefined,
        (error: unknown) => error,
      )
      .then((error) => this.#onEnd(running, error))
      .catch(() => undefined);
  }

  #onReady(running: RunningFeed): void {
    if (running.ready || this.#next !== running) return;
    running.ready = true;
    const before = this.#current;
    this.#current = running;
    this.#next = undefined;
    this.#failures = 0;
    before?.controller.abort();
    for (const key of running.keys) {
      if (before?.keys.has(key) !== true) this.#tell({ type: 'sync', key });
    }
    // Keys that were added meanwhile.
    for (const key of this.#listeners.keys()) {
      if (!running.keys.has(key)) return this.#renewIn(GATHER_MS);
    }
  }

  #onEnd(running: RunningFeed, error: unknown): void {
    const { signal } = running.controller;
    if (signal.aborted) return;
    running.controller.abort();
    if (this.#current === running) this.#current = undefined;
    if (this.#next === running) this.#next = undefined;
    this.#failures += 1;
    const most = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(this.#failures, 10));
    const delay = error instanceof NoFeed ? NO_FEED_RETRY_MS : most * (0.5 + 0.5 * Math.random());
    this.#renewIn(delay);
  }

  #tell(event: WatchEvent): void {
    for (const listener of [...(this.#listeners.get(event.key) ?? [])]) listener(event);
  }
}
