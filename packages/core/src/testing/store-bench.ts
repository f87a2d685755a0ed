import assert from 'node:assert/strict';
import type { MetadataStore, WatchEvent } from '../metadata/metadata-store.ts';
import type { StoreFixture } from './store-fixture.ts';

/** Bounds what should have happened long before. */
const PATIENCE_MS = 20_000;
const POLL_MS = 10;

export async function withStores(
  fixture: StoreFixture,
  count: number,
  check: (stores: [MetadataStore, MetadataStore]) => Promise<void>,
): Promise<void> {
  const stores: MetadataStore[] = [];
  try {
    for (let index = 0; index < count; index += 1) stores.push(await fixture.openStore());
    await check(stores as [MetadataStore, MetadataStore]);
  } finally {
    await Promise.all(stores.map((store) => store.close()));
  }
}

export async function failureOf(
  name: string,
  call: Promise<unknown>,
  limitMs = PATIENCE_MS,
): Promise<unknown> {
  const result = await withinLimit(
    name,
    call.then(
      () => undefined,
      (error: unknown) => ({ error }),
    ),
    limitMs,
  );
  assert.ok(result !== undefined, `${name} should have been rejected, and succeeded`);
  return result.error;
}

export async function withinLimit<T>(
  what: string,
  promise: Promise<T>,
  limitMs = PATIENCE_MS,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`${what}: not settled after ${limitMs} ms`)),
      limitMs,
    );
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks again and again until the answer is true. */
export async function eventually(
  fixture: StoreFixture,
  what: string,
  ask: () => Promise<boolean>,
): Promise<void> {
  const { patienceMs = PATIENCE_MS } = fixture;
  const end = performance.now() + patienceMs;
  while (!(await ask())) {
    assert.ok(performance.now() < end, `${what}: not within ${patienceMs} ms`);
    await new Promise<void>((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** The events of a watch, which can be waited for. */
export class WatchLog {
  readonly events: WatchEvent[] = [];
  readonly #patienceMs: number;
  #wake: () => void = () => undefined;

  constructor({ patienceMs = PATIENCE_MS }: StoreFixture) {
    this.#patienceMs = patienceMs;
  }

  readonly listen = (event: WatchEvent): void => {
    this.events.push(event);
    this.#wake();
  };

  /** Waits for an event after the first `from` ones. */
  async next(what: string, wanted: (event: WatchEvent) => boolean, from = 0): Promise<WatchEvent> {
    for (;;) {
      const found = this.events.slice(from).find(wanted);
      if (found !== undefined) return found;
      await withinLimit(
        `${what} (events so far: ${this.events.map(({ type }) => type).join(' ')})`,
        new Promise<void>((resolve) => (this.#wake = resolve)),
        this.#patienceMs,
      );
    }
  }
}
