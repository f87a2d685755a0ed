import { MemoryDirectory, MemoryStore, type MetadataStore } from '@transfer-engine/core/metadata';
import { storeCompliance } from '@transfer-engine/core/testing';
import { describe, expect, it } from 'vitest';

describe('memory store', () => {
  for (const { name, run } of storeCompliance) {
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

describe('the suite notices a store that', () => {
  for (const [what, plant] of Object.entries(planted)) {
    it(what, async () => {
      const failed: string[] = [];
      for (const { name, run } of storeCompliance) {
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
            close: () => store.close(),
            ...plant(store, made),
          };
          return Promise.resolve(whole);
        };
        await run({ openStore }).catch(() => failed.push(name));
      }
      expect(failed.length).toBeGreaterThan(0);
      expect(failed.length).toBeLessThan(storeCompliance.length);
    });
  }
});
