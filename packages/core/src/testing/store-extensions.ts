import assert from 'node:assert/strict';
import { EngineError } from '../base/errors.ts';
import type {
  LeaseOptions,
  MetadataLease,
  MetadataStore,
  MetadataWatch,
  WatchListener,
} from '../metadata/metadata-store.ts';
import type { ComplianceCase } from './compliance-case.ts';
import { eventually, failureOf, WatchLog, withStores } from './store-bench.ts';
import type { StoreFixture, StoreRequirement } from './store-fixture.ts';

type StoreCase = ComplianceCase<StoreFixture, StoreRequirement>;
type Check = (stores: [MetadataStore, MetadataStore], fixture: StoreFixture) => Promise<void>;

/** Short, but not below what every server can do: etcd counts in seconds. */
const LEASE_MS = 1_000;
const LARGE = 8 * 1024 * 1024;

/** What a store with `list`, `watch` and `lease` promises, and one whose server is restarted. */
export const storeExtensionCases: readonly StoreCase[] = [
  twoStores('lists the keys of a prefix, sorted, and nothing else', ['list'], async ([a, b]) => {
    const keys = ['b', 'a/2', 'a/10', 'a/', 'ü', '*', '?[x]', 'a\\b'].map((k) => `list/${k}`);
    for (const key of keys) await a.put(key, 'x');
    await a.put('lis', 'not below');
    await a.put('list', 'not below');
    await a.put('list0', 'not below');
    assert.deepEqual(await listOf(b, 'list/'), [...keys].sort());
    assert.deepEqual(await listOf(b, 'list/a/'), ['list/a/', 'list/a/10', 'list/a/2']);
    assert.deepEqual(await listOf(b, 'list/*'), ['list/*']);
    assert.deepEqual(await listOf(b, 'list/?'), ['list/?[x]']);
    assert.deepEqual(await listOf(b, 'list/none'), []);
    assert.ok((await listOf(b, '')).includes('list0'));
    for (const key of keys) await a.remove(key);
    assert.deepEqual(await listOf(b, 'list/'), []);
  }),
  twoStores('lists a thousand keys', ['list'], async ([a, b]) => {
    const keys = Array.from({ length: 1_000 }, (_, i) => `many/${String(i).padStart(4, '0')}`);
    const patient = { timeoutMs: 20_000 };
    await Promise.all(keys.map((key) => a.put(key, key, patient)));
    assert.deepEqual(await listOf(b, 'many/'), keys);
    await Promise.all(keys.map((key) => a.remove(key, patient)));
  }),
  twoStores(
    'a watch tells of every kind of change by anybody',
    ['watch'],
    async ([a, b], fixture) => {
      const log = new WatchLog(fixture);
      const watch = watchOf(a, 'watch/key', log.listen);
      await log.next('the first sync', ({ type }) => type === 'sync');
      await b.put('watch/key', 'one');
      await log.next('a put', ({ type }) => type === 'put');
      let seen = log.events.length;
      await b.put('watch/key', 'two');
      await log.next('a second put', ({ type }) => type === 'put', seen);
      seen = log.events.length;
      await b.remove('watch/key');
      await log.next('a removal', ({ type }) => type === 'remove', seen);
      for (const event of log.events) {
        assert.equal(event.key, 'watch/key');
        assert.ok(event.value === undefined || ['one', 'two'].includes(event.value));
      }
      watch.close();
    },
  ),
  twoStores('a watch tells of its own key only, and ends', ['watch'], async ([a, b], fixture) => {
    const [log, other] = [new WatchLog(fixture), new WatchLog(fixture)];
    const watch = watchOf(a, 'watch/a', log.listen);
    watchOf(a, 'watch/*', other.listen);
    await log.next('the first sync', ({ type }) => type === 'sync');
    await other.next('the first sync', ({ type }) => type === 'sync');
    await b.put('watch/a/b', 'x');
    await b.put('watch/', 'x');
    await b.put('watch/*', 'last');
    await other.next('a put', ({ type }) => type === 'put');
    assert.deepEqual(
      log.events.filter(({ type }) => type !== 'sync'),
      [],
    );
    watch.close();
    watch.close();
    const seen = log.events.length;
    const before = other.events.length;
    await b.put('watch/a', 'after the end');
    await b.remove('watch/*');
    await other.next('a removal', ({ type }) => type === 'remove', before);
    assert.equal(log.events.length, seen, 'no event after close');
  }),
  twoStores('many watches of one store', ['watch'], async ([a, b], fixture) => {
    const logs = Array.from({ length: 50 }, () => new WatchLog(fixture));
    for (const [index, log] of logs.entries()) watchOf(a, `watch/many/${index}`, log.listen);
    await Promise.all(logs.map((log) => log.next('sync', ({ type }) => type === 'sync')));
    await Promise.all(logs.map((_, index) => b.put(`watch/many/${index}`, 'x')));
    await Promise.all(logs.map((log) => log.next('put', ({ type }) => type === 'put')));
  }),
  twoStores('leased keys stay while they are refreshed', ['lease'], async ([a, b], fixture) => {
    const lease = leaseOf(a, { leaseMs: LEASE_MS });
    await lease.put('lease/stays', 'first');
    await lease.put('lease/stays', 'second');
    assert.equal(await b.get('lease/stays'), 'second');
    // A leased key beside it, whose end shows that its time is over.
    const other = leaseOf(a, { leaseMs: LEASE_MS });
    await other.put('lease/goes', 'x');
    other.close();
    await eventually(
      fixture,
      'the end of a key',
      async () => (await b.get('lease/goes')) === undefined,
    );
    assert.equal(await b.get('lease/stays'), 'second');
    await lease.remove('lease/stays');
    assert.equal(await b.get('lease/stays'), undefined);
    lease.close();
  }),
  twoStores('leased keys go when their writer has gone', ['lease'], async ([a, b], fixture) => {
    await leaseOf(a, { leaseMs: LEASE_MS }).put('lease/dead', 'x');
    await a.put('lease/plain', 'x');
    await a.close();
    assert.equal(await b.get('lease/dead'), 'x');
    await eventually(
      fixture,
      'the end of a key',
      async () => (await b.get('lease/dead')) === undefined,
    );
    assert.equal(await b.get('lease/plain'), 'x');
  }),
  twoStores('a plain put takes a key out of its lease', ['lease'], async ([a, b], fixture) => {
    const lease = leaseOf(a, { leaseMs: LEASE_MS });
    await lease.put('lease/taken', 'leased');
    await lease.put('lease/witness', 'leased');
    await b.put('lease/taken', 'plain');
    lease.close();
    await eventually(
      fixture,
      'the end of a key',
      async () => (await b.get('lease/witness')) === undefined,
    );
    assert.equal(await b.get('lease/taken'), 'plain');
  }),
  twoStores('a lease says which of its keys were lost', ['lease'], async ([a, b], fixture) => {
    const lost = new WatchLog(fixture);
    const lease = leaseOf(a, {
      leaseMs: LEASE_MS,
      onLost: (keys) => keys.forEach((key) => lost.listen({ type: 'remove', key })),
    });
    await lease.put('lease/removed', 'x');
    await lease.put('lease/kept', 'x');
    await b.remove('lease/removed');
    await lost.next('the loss', ({ key }) => key === 'lease/removed');
    assert.ok(lost.events.every(({ key }) => key !== 'lease/kept'));
    await lease.put('lease/removed', 'again');
    assert.equal(await b.get('lease/removed'), 'again');
    lease.close();
    const error = await failureOf('put', lease.put('lease/x', 'x'));
    assert.ok(error instanceof EngineError && error.code === 'ERR_TE_CLOSED', String(error));
  }),
  twoStores('documents of 8 MiB', ['large'], async ([a, b]) => {
    const value = 'ä'.repeat(LARGE / 2 - 1);
    await a.put('large', value, { timeoutMs: 20_000 });
    assert.ok((await b.get('large', { timeoutMs: 20_000 })) === value, 'the value is another one');
    await a.remove('large');
  }),
  twoStores('a document above the limit of the server', ['limit'], async ([a, b], fixture) => {
    const value = 'v'.repeat((fixture.limitBytes ?? 0) + 1);
    await a.put('limit', 'before');
    const error = await failureOf('put', a.put('limit', value, { timeoutMs: 20_000 }));
    assert.ok(error instanceof EngineError && error.code === 'ERR_TE_METADATA', String(error));
    assert.match(error.message, /too large|larger|bytes/);
    assert.equal(await b.get('limit'), 'before');
    await a.put('limit', 'after');
    assert.equal(await b.get('limit'), 'after');
  }),
  twoStores(
    'calls fail while the server is away, and work again',
    ['restart'],
    async ([a, b], fixture) => {
      await a.put('restart/plain', 'x');
      await restartOf(fixture, async () => {
        for (const call of [
          () => a.get('restart/plain', BRIEF),
          () => b.put('restart/plain', 'y', BRIEF),
        ]) {
          const error = await failureOf('a call without a server', call());
          assert.ok(error instanceof EngineError, String(error));
          assert.ok(['ERR_TE_METADATA', 'ERR_TE_TIMEOUT'].includes(error.code), error.code);
        }
      });
      await eventually(fixture, 'a put after the restart', () =>
        works(a.put('restart/after', 'z', BRIEF)),
      );
      assert.equal(await a.get('restart/after', { timeoutMs: 10_000 }), 'z');
      await eventually(fixture, 'a get after the restart', () =>
        works(b.get('restart/after', BRIEF)),
      );
      assert.equal(await b.get('restart/plain'), undefined);
    },
  ),
  twoStores(
    'watches and leases go on after a restart',
    ['restart', 'watch', 'lease'],
    async ([a, b], fixture) => {
      const [log, lost] = [new WatchLog(fixture), new WatchLog(fixture)];
      const lease = leaseOf(a, {
        leaseMs: LEASE_MS,
        onLost: (keys) => keys.forEach((key) => lost.listen({ type: 'remove', key })),
      });
      await lease.put('restart/leased', 'x');
      watchOf(a, 'restart/watched', log.listen);
      await log.next('the first sync', ({ type }) => type === 'sync');
      const seen = log.events.length;
      await restartOf(fixture, () => Promise.resolve());
      await log.next('a sync after the restart', ({ type }) => type === 'sync', seen);
      await lost.next('the loss', ({ key }) => key === 'restart/leased');
      await lease.put('restart/leased', 'again');
      await eventually(fixture, 'a put', () => works(b.put('restart/watched', 'x', BRIEF)));
      await log.next('a put after the restart', ({ type }) => type === 'put', seen);
      assert.equal(await b.get('restart/leased'), 'again');
    },
  ),
];

const BRIEF = { timeoutMs: 1_000 };

function twoStores(name: string, requires: readonly StoreRequirement[], check: Check): StoreCase {
  return {
    name,
    requires,
    run: (fixture) => withStores(fixture, 2, (stores) => check(stores, fixture)),
  };
}

function works(call: Promise<unknown>): Promise<boolean> {
  return call.then(
    () => true,
    () => false,
  );
}

function restartOf(fixture: StoreFixture, whileDown: () => Promise<void>): Promise<void> {
  assert.ok(fixture.restart !== undefined, 'the fixture can restart the server');
  return fixture.restart(whileDown);
}

function listOf(store: MetadataStore, prefix: string): Promise<string[]> {
  assert.ok(store.list !== undefined, 'the store has list');
  return store.list(prefix);
}

function watchOf(store: MetadataStore, key: string, listener: WatchListener): MetadataWatch {
  assert.ok(store.watch !== undefined, 'the store has watch');
  return store.watch(key, listener);
}

function leaseOf(store: MetadataStore, options: LeaseOptions): MetadataLease {
  assert.ok(store.lease !== undefined, 'the store has lease');
  return store.lease(options);
}
