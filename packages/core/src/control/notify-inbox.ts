import { invariant } from '../base/invariant.ts';

export interface InboxBounds {
  /** Notifications that wait at once. */
  readonly items: number;
  /** Their text together, in UTF-16 units. */
  readonly characters: number;
}

export interface InboxItem {
  readonly name: string;
  readonly message: string;
}

type Settle<T> = (result: IteratorResult<T, undefined>) => void;

const ENDED = { done: true, value: undefined } as const;
/** Taken items at the front of the queue are given back to the allocator from this many on. */
const COMPACT_FROM = 1_024;

/**
 * Received notifications, in the order of arrival, until somebody takes them.
 *
 * Each goes to exactly one consumer: to the iterator that has waited longest, else into the queue,
 * from which {@link take} and iterators draw. The queue is bounded: {@link push} says no when it is
 * full, and the sender is told.
 */
export class NotifyInbox<T extends InboxItem = InboxItem> {
  readonly #bounds: InboxBounds;
  /** In insertion order; deleting while others wait must be cheap. */
  readonly #waiting = new Set<Settle<T>>();
  #queue: T[] = [];
  #head = 0;
  #characters = 0;
  #closed = false;
  #received = 0;
  #refused = 0;

  constructor(bounds: InboxBounds) {
    invariant(bounds.items > 0 && bounds.characters > 0, 'bounds of an inbox are positive');
    this.#bounds = bounds;
  }

  /** Notifications that wait. */
  get size(): number {
    return this.#queue.length - this.#head;
  }

  /** Accepted since the start. */
  get received(): number {
    return this.#received;
  }

  /** Refused since the start, because the inbox was full or closed. */
  get refused(): number {
    return this.#refused;
  }

  /** False when the notification was not accepted: no room, or closed. */
  push(item: T): boolean {
    if (this.#closed) return this.#refuse();
    for (const settle of this.#waiting) {
      this.#waiting.delete(settle);
      this.#received += 1;
      settle({ done: false, value: item });
      return true;
    }
    const characters = item.name.length + item.message.length;
    if (this.size >= this.#bounds.items) return this.#refuse();
    if (this.#characters + characters > this.#bounds.characters) return this.#refuse();
    this.#queue.push(item);
    this.#characters += characters;
    this.#received += 1;
    return true;
  }

  /** Takes everything that waits; also after the inbox was closed. */
  take(): T[] {
    const items = this.#head === 0 ? this.#queue : this.#queue.slice(this.#head);
    this.#queue = [];
    this.#head = 0;
    this.#characters = 0;
    return items;
  }

  /**
   * Takes notifications one by one, as they come. Ends at once when the signal aborts, and when
   * the inbox is closed and empty. Leaving the loop loses nothing.
   */
  iterate(signal?: AbortSignal): AsyncIterableIterator<T, undefined> {
    const own = new Set<Settle<T>>();
    let ended = false;
    const end = (): void => {
      ended = true;
      signal?.removeEventListener('abort', end);
      for (const settle of own) {
        this.#waiting.delete(settle);
        settle(ENDED);
      }
      own.clear();
    };
    if (signal?.aborted === true) ended = true;
    else signal?.addEventListener('abort', end, { once: true });
    const next = (): Promise<IteratorResult<T, undefined>> => {
      const item = ended ? undefined : this.#shift();
      if (item !== undefined) return Promise.resolve({ done: false, value: item });
      if (this.#closed && !ended) end();
      if (ended) return Promise.resolve(ENDED);
      return new Promise((resolve) => {
        const settle: Settle<T> = (result) => {
          own.delete(settle);
          resolve(result);
        };
        own.add(settle);
        this.#waiting.add(settle);
      });
    };
    const iterator: AsyncIterableIterator<T, undefined> = {
      next,
      return: () => {
        end();
        return Promise.resolve(ENDED);
      },
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }

  /** Accepts nothing more and ends waiting iterators; what waits can still be taken. */
  close(): void {
    this.#closed = true;
    for (const settle of this.#waiting) settle(ENDED);
    this.#waiting.clear();
  }

  #refuse(): false {
    this.#refused += 1;
    return false;
  }

  #shift(): T | undefined {
    const item = this.#queue[this.#head];
    if (item === undefined) return undefined;
    this.#characters -= item.name.length + item.message.length;
    this.#head += 1;
    if (this.#head >= COMPACT_FROM && this.#head * 2 >= this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }
}
