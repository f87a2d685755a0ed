import assert from 'node:assert/strict';
import { EngineError } from '../base/errors.ts';
import type { MetadataStore } from '../metadata/metadata-store.ts';
import type { ComplianceCase } from './compliance-case.ts';
import { failureOf, withinLimit, withStores } from './store-bench.ts';
import { storeExtensionCases } from './store-extensions.ts';
import type { StoreFixture, StoreRequirement } from './store-fixture.ts';

type StoreCase = ComplianceCase<StoreFixture, StoreRequirement>;

/** Keys that a store must take as they are: none is escaped, cut, split or mixed up with another. */
const KEYS: readonly string[] = [
  'plain',
  'mooncake/ram/host:12345',
  'mooncake/rpc_meta/host:12345',
  'a/b/c/d/e',
  '/leading/slash',
  'trailing/slash/',
  'double//slash',
  'with space',
  ' leading space',
  '%',
  '%2F',
  '100%25',
  'plus+sign',
  'a=b&c=d?e#f',
  'key=other',
  'quote"and\'apostrophe',
  'back\\slash',
  'semi;colon,comma',
  '..',
  '../escape',
  'a/../b',
  'line\nbreak',
  'tab\there',
  '[::1]:8080',
  'ünïcödé',
  '键/值',
  '🚚/📦',
  'e\u0301 is not \u00e9',
  '\u00e9 is not e\u0301',
  '__proto__',
  'constructor',
  'x'.repeat(512),
];

const VALUES: Readonly<Record<string, string>> = {
  'an empty value': '',
  'a trailing newline': '{"a":1}\n',
  'several trailing newlines': 'x\n\n\n',
  'carriage returns': 'a\r\nb\r\n',
  'white space only': '  \t ',
  'a leading byte order mark': '\ufeffvalue',
  'numbers beyond 2^53': '{"addr":18446744073709551615}',
  'text beyond ASCII': 'ä 键 🚚',
  'quotes and escapes': '"\\u0000\\" \' %00 \\',
  'one mebibyte': 'v'.repeat(1024 * 1024),
};

/** The suite for metadata stores: what `MetadataStore` promises, case by case. */
export const storeCompliance: readonly StoreCase[] = [
  storeCase('a missing key is undefined', async (store) => {
    assert.equal(await store.get('compliance/missing'), undefined);
  }),
  storeCase('what was put is what is read', async (store) => {
    await store.put('compliance/put', 'value');
    assert.equal(await store.get('compliance/put'), 'value');
  }),
  storeCase('a second put replaces the first', async (store) => {
    for (const value of ['first', 'second, longer', '3']) {
      await store.put('compliance/replace', value);
      assert.equal(await store.get('compliance/replace'), value);
    }
  }),
  storeCase('a document of an engine that is gone can be replaced', async (store) => {
    // Some servers refuse to overwrite these keys; a store has to find its way.
    await store.put('mooncake/rpc_meta/compliance', '{"rpc_port":1}');
    await store.put('mooncake/rpc_meta/compliance', '{"rpc_port":2}');
    assert.equal(await store.get('mooncake/rpc_meta/compliance'), '{"rpc_port":2}');
  }),
  storeCase('what was removed is missing, and can be put again', async (store) => {
    await store.put('compliance/remove', 'value');
    await store.put('compliance/remove-not', 'stays');
    await store.remove('compliance/remove');
    assert.equal(await store.get('compliance/remove'), undefined);
    assert.equal(await store.get('compliance/remove-not'), 'stays');
    await store.put('compliance/remove', 'again');
    assert.equal(await store.get('compliance/remove'), 'again');
  }),
  storeCase('removing what is missing succeeds', async (store) => {
    await store.remove('compliance/never-there');
    await store.remove('compliance/never-there');
    assert.equal(await store.get('compliance/never-there'), undefined);
  }),
  storeCase('keys are taken as they are', async (store) => {
    for (const key of KEYS) await store.put(key, `value of ${key}`);
    for (const key of KEYS) {
      assert.equal(await store.get(key), `value of ${key}`, `key ${JSON.stringify(key)}`);
    }
    for (const [index, key] of KEYS.entries()) {
      await store.remove(key);
      assert.equal(await store.get(key), undefined, `key ${JSON.stringify(key)} was removed`);
      const next = KEYS[index + 1];
      if (next !== undefined) assert.equal(await store.get(next), `value of ${next}`);
    }
  }),
  ...Object.entries(VALUES).map(([what, value]) =>
    storeCase(`values are kept exactly: ${what}`, async (store) => {
      await store.put('compliance/value', value);
      const got = await store.get('compliance/value');
      assert.ok(got === value, `put ${describeText(value)}, got ${describeText(got)}`);
    }),
  ),
  {
    name: 'two stores over one directory see the same documents',
    requires: [],
    run: (fixture) =>
      withStores(fixture, 2, async ([first, second]) => {
        await first.put('compliance/shared', 'from the first');
        assert.equal(await second.get('compliance/shared'), 'from the first');
        await second.remove('compliance/shared');
        assert.equal(await first.get('compliance/shared'), undefined);
      }),
  },
  {
    name: 'concurrent writers of different keys do not disturb each other',
    requires: [],
    run: (fixture) =>
      withStores(fixture, 2, async ([first, second]) => {
        const keys = Array.from({ length: 100 }, (_, index) => `compliance/concurrent/${index}`);
        await Promise.all(
          keys.map((key, index) => (index % 2 === 0 ? first : second).put(key, `to ${key}`)),
        );
        const values = await Promise.all(keys.map((key) => first.get(key)));
        assert.deepEqual(
          values,
          keys.map((key) => `to ${key}`),
        );
      }),
  },
  {
    name: 'concurrent writers of one key leave one whole value',
    requires: [],
    run: (fixture) =>
      withStores(fixture, 2, async ([first, second]) => {
        const values = Array.from({ length: 32 }, (_, index) => String(index).repeat(5_000));
        await Promise.all(
          values.map((value, index) =>
            (index % 2 === 0 ? first : second).put('compliance/contended', value),
          ),
        );
        const got = await first.get('compliance/contended');
        assert.ok(got !== undefined && values.includes(got), `got ${describeText(got)}`);
        assert.equal(await second.get('compliance/contended'), got);
      }),
  },
  storeCase('a call with an aborted signal rejects with the reason', async (store) => {
    const reason = new Error('no longer needed');
    const signal = AbortSignal.abort(reason);
    for (const [name, call] of callsOf(store)) {
      const error = await failureOf(name, call({ signal }));
      assert.equal(error, reason, `${name} rejected with ${String(error)}`);
    }
    await store.put('compliance/after-abort', 'works');
    assert.equal(await store.get('compliance/after-abort'), 'works');
  }),
  storeCase('a signal that never aborts changes nothing', async (store) => {
    const { signal } = new AbortController();
    await store.put('compliance/signal', 'value', { signal, timeoutMs: 20_000 });
    assert.equal(await store.get('compliance/signal', { signal }), 'value');
    await store.remove('compliance/signal', { signal });
    assert.equal(await store.get('compliance/signal', { signal }), undefined);
  }),
  storeCase('a closed store says so, and closing twice is fine', async (store) => {
    await store.put('compliance/closed', 'value');
    await store.close();
    await store.close();
    for (const [name, call] of callsOf(store)) {
      const error = await failureOf(name, call({}));
      assert.ok(
        error instanceof EngineError && error.code === 'ERR_TE_CLOSED',
        `${name} after close should reject with ERR_TE_CLOSED, got ${String(error)}`,
      );
    }
  }),
  storeCase('closing ends the calls that are running', async (store) => {
    const calls = Array.from({ length: 20 }, (_, index) => store.get(`compliance/${index}`));
    const ended = Promise.allSettled(calls);
    await store.close();
    for (const result of await withinLimit('calls running at close', ended)) {
      if (result.status === 'fulfilled') continue;
      assert.ok(result.reason instanceof EngineError, `rejected with ${String(result.reason)}`);
    }
  }),
  storeCase('the description is for logs: present, and without credentials', async (store) => {
    assert.equal(typeof store.description, 'string');
    assert.notEqual(store.description, '');
    assert.doesNotMatch(store.description, /:\/\/[^/]*@/);
  }),
  ...storeExtensionCases,
];

type Options = Parameters<MetadataStore['get']>[1] & object;

function callsOf(store: MetadataStore): [string, (options: Options) => Promise<unknown>][] {
  return [
    ['get', (options) => store.get('compliance/call', options)],
    ['put', (options) => store.put('compliance/call', 'value', options)],
    ['remove', (options) => store.remove('compliance/call', options)],
  ];
}

function storeCase(name: string, check: (store: MetadataStore) => Promise<void>): StoreCase {
  return {
    name,
    requires: [],
    run: (fixture) => withStores(fixture, 1, ([store]) => check(store)),
  };
}

function describeText(text: string | undefined): string {
  if (text === undefined) return 'nothing';
  return text.length <= 60 ? JSON.stringify(text) : `${text.length} characters`;
}
