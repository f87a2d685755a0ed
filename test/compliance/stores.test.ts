import { MemoryDirectory, MemoryStore, type MetadataStore } from '@transfer-engine/core/metadata';
import { applicableCases, storeCompliance } from '@transfer-engine/core/testing';
import { describe, expect, it } from 'vitest';

const cases = applicableCases(storeCompliance, ['list', 'watch', 'lease', 'large']);
/** What needs no list, watch or lease. */
const basicCases = applicableCases(storeCompliance, []);

describe('memory store', () => {
  for (const { name, run } of cases) {
    it(name, async () => {
      const directory = new MemoryDirectory();
      await run({ openStore: () => Promise.resolve(new MemoryStore(directory)) });
    });
  }
});

/** A store that works, with one method replaced: the suite has to notice every one of these. */
const planted: Record<string, (store: MemoryStore, made: number) => Partial<MetadataStore>> = {
  'cuts trailing newlines': (store) => ({
    get: async (key, options) => (await store.get(key, options))?.trimEnd(),
  }),
  'answers a missing key with an empty text': (store) => ({
    get: async (key, options) => (await store.get(key, options)) ?? '',
  }),
  'takes an empty value for a missing one': (store) => ({
    get: async (key, options) => (await store.get(key, options)) || undefined,
  }),
  'decodes keys': (store) => ({
    put: (key, value, options) => store.put(key.replace('%2F', '/'), value, options),
    get: (key, options) => store.get(key.replace('%25', '%'), options),
  }),
  'joins slashes': (store) => ({
    put: (key, value, options) => store.put(key.replace('//', '/'), value, options),
  }),
  'keeps the first value': (store) => ({
    put: async (key, value, options) => {
      if ((await store.get(key, options)) === undefined) await store.put(key, value, options);
    },
  }),
  'fails to remove what is missing': (store) => ({
    remove: async (key, options) => {
      if ((await store.get(key)) === undefined) throw new Error('not found');
      await store.remove(key, options);
    },
  }),
  'removes by prefix': (store) => ({
    remove: async (key, options) => {
      await store.remove(key, options);
      await store.remove(`${key}-not`, options);
    },
  }),
  'ignores the signal': (store) => ({ get: (key) => store.get(key) }),
  'works after close': (store) => ({ close: () => store.put('compliance/x', 'x') }),
  'truncates large values': (store) => ({
    put: (key, value, options) => store.put(key, value.slice(0, 65_536), options),
  }),
  'loses accents': (store) => ({
    get: (key, options) => store.get(key.normalize('NFC'), options),
    put: (key, value, options) => store.put(key.normalize('NFC'), value, options),
  }),
  'lets only the first of several stores see writes': (store, made) => ({
    get: (key, options) => (made > 1 ? Promise.resolve(undefined) : store.get(key, options)),
  }),
};

/** Bugs in what some stores have and others have not. */
const plantedExtensions: Record<string, (store: MemoryStore) => Partial<MetadataStore>> = {
  'lists keys that are not below the prefix': (store) => ({
    list: () => store.list(''),
  }),
  'lists in no order': (store) => ({
    list: async (prefix) => (await store.list(prefix)).reverse(),
  }),
  'takes prefixes for patterns': (store) => ({
    list: async (prefix) => store.list(prefix.replace(/[*?]$/, '')),
  }),
  'lists one page': (store) => ({
    list: async (prefix) => (await store.list(prefix)).slice(0, 500),
  }),
  'tells of no removal': (store) => ({
    watch: (key, listener) =>
      store.watch(key, (event) => {
        if (event.type !== 'remove') listener(event);
      }),
  }),
  'never says that it is in sync': (store) => ({
    watch: (key, listener) =>
      store.watch(key, (event) => {
        if (event.type !== 'sync') listener(event);
      }),
  }),
  'goes on watching after close': (store) => ({
    watch: (key, listener) => {
      store.watch(key, listener);
      return { close() {} };
    },
  }),
  'never lets leased keys go': (store) => ({
    lease: (options) => {
      const lease = store.lease(options);
      return {
        put: (key, value) => store.put(key, value),
        remove: (key) => store.remove(key),
        close: () => lease.close(),
      };
    },
  }),
  'does not refresh leased keys': (store) => ({
    lease: (options) => {
      const lease = store.lease(options);
      return {
        put: async (key, value) => {
          const short = store.lease({ leaseMs: 300 });
          await short.put(key, value);
          short.close();
        },
        remove: (key) => lease.remove(key),
        close: () => lease.close(),
      };
    },
  }),
  'keeps its losses to itself': (store) => ({
    lease: ({ leaseMs }) => store.lease({ leaseMs }),
  }),
};

async function failuresOf(
  tried: typeof cases,
  plant: (store: MemoryStore, made: number) => Partial<MetadataStore>,
): Promise<string[]> {
  const results = await Promise.all(
    tried.map(async ({ name, run }) => {
      const directory = new MemoryDirectory();
      let made = 0;
      const openStore = (): Promise<MetadataStore> => {
        const store = new MemoryStore(directory);
        made += 1;
        const whole: MetadataStore = {
          description: store.description,
          get: (key, options) => store.get(key, options),
          put: (key, value, options) => store.put(key, value, options),
          remove: (key, options) => store.remove(key, options),
          list: (prefix, options) => store.list(prefix, options),
          watch: (key, listener) => store.watch(key, listener),
          lease: (options) => store.lease(options),
          close: () => store.close(),
          ...plant(store, made),
        };
        return Promise.resolve(whole);
      };
      return run({ openStore, patienceMs: 3_000 }).then(
        () => undefined,
        () => name,
      );
    }),
  );
  return results.filter((name) => name !== undefined);
}

describe('the suite notices a store that', () => {
  it.each(Object.entries(planted))('%s', async (_what, plant) => {
    const failed = await failuresOf(basicCases, plant);
    expect(failed.length).toBeGreaterThan(0);
    expect(failed.length).toBeLessThan(basicCases.length);
  });

  const extensionCases = cases.filter((compliance) => !basicCases.includes(compliance));

  it.concurrent.each(Object.entries(plantedExtensions))('%s', async (_what, plant) => {
    const failed = await failuresOf(extensionCases, plant);
    expect(failed.length).toBeGreaterThan(0);
    expect(failed.length).toBeLessThan(extensionCases.length);
  });

  it('and nothing is wrong with the store that they are planted in', async () => {
    expect(await failuresOf(cases, () => ({}))).toEqual([]);
  });
});
