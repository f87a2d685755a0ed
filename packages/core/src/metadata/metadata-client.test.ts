import { describe, expect, it } from 'vitest';
import { EngineError } from '../base/errors.ts';
import type { SegmentDraft } from '../segment/segment-descriptor.ts';
import { FakeClock } from '../testing/fake-clock.ts';
import { MemoryDirectory, MemoryStore } from './memory-store.ts';
import { MetadataClient, type MetadataClientOptions } from './metadata-client.ts';
import type { MetadataStore } from './metadata-store.ts';
import { StoreDirectory } from './store-directory.ts';

const identity = { instance: 'i', host: 'h' };
const now = () => new Date(2026, 0, 2, 3, 4, 5, 6);

function draftOf(buffers = 0, protocols = ['tcp']): SegmentDraft {
  return {
    protocols,
    tcpDataPort: 9,
    tcpProtoVersion: 2,
    devices: [],
    priorityMatrix: {},
    capabilities: [],
    buffers: Array.from({ length: buffers }, (_, index) => ({
      regionId: index,
      name: 'n',
      address: BigInt(4_096 * (index + 1)),
      length: 4_096,
      remoteKeys: [],
      localKeys: [],
      extras: {},
    })),
  };
}

interface Fixture {
  readonly documents: Map<string, string>;
  readonly calls: string[];
  readonly client: MetadataClient;
}

/** A client over a store that notes the order of calls and takes a turn for each. */
function fixture(
  options: Partial<MetadataClientOptions> = {},
  overrides: Partial<MetadataStore> = {},
): Fixture {
  const directory = new MemoryDirectory();
  const memory = new MemoryStore(directory);
  const calls: string[] = [];
  const store: MetadataStore = {
    description: 'memory://test',
    get: (key, bounds) => memory.get(key, bounds),
    put: async (key, value, bounds) => {
      calls.push(`put ${key}`);
      await new Promise<void>((resolve) => setImmediate(resolve));
      await memory.put(key, value, bounds);
    },
    remove: (key, bounds) => {
      calls.push(`remove ${key}`);
      return memory.remove(key, bounds);
    },
    close: () => memory.close(),
    ...overrides,
  };
  const client = new MetadataClient({ store, name: 'own', identity, now, ...options });
  return { documents: directory.documents, calls, client };
}

async function failure(promise: Promise<unknown>): Promise<EngineError> {
  const thrown: unknown = await promise.then(
    () => 'no error',
    (error: unknown) => error,
  );
  expect(thrown).toBeInstanceOf(EngineError);
  return thrown as EngineError;
}

describe('MetadataClient', () => {
  it('writes the documents of the C++ engine under its keys', async () => {
    const { documents, client } = fixture({ strict: true, clusterId: 'c1' });
    await client.publishRpcMeta({ host: '10.0.0.7', rpcPort: 15_001 });
    await client.publishSegment(draftOf());
    expect(Object.fromEntries(documents)).toEqual({
      'mooncake/c1/rpc_meta/own': '{"ip_or_host_name":"10.0.0.7","rpc_port":15001}',
      'mooncake/c1/ram/own':
        '{"buffers":[],"name":"own","protocol":"tcp","tcp_data_port":9,"tcp_proto_version":2,' +
        '"timestamp":"2026-01-02 03:04:05.006000"}',
    });
  });

  it('ends documents with a newline in the stores where C++ does', async () => {
    const { documents, client } = fixture({}, { trailingNewline: true });
    await client.publishRpcMeta({ host: 'h', rpcPort: 1 });
    await client.publishSegment(draftOf());
    for (const value of documents.values()) expect(value).toMatch(/\}\n$/);
    expect((await client.fetchSegment('own')).name).toBe('own');
    expect(await client.fetchRpcMeta('own')).toEqual({ host: 'h', rpcPort: 1 });
  });

  it('joins publications, and everybody waits for one with his state', async () => {
    const { client, calls, documents } = fixture();
    const seen: number[] = [];
    let buffers = 0;
    const publish = async () => {
      buffers += 1;
      const own = buffers;
      await client.publishSegment(() => draftOf(buffers));
      const text = documents.get('mooncake/ram/own') ?? '{}';
      const { buffers: published } = JSON.parse(text) as { buffers: unknown[] };
      expect(published.length).toBeGreaterThanOrEqual(own);
      seen.push(own);
    };
    await Promise.all(Array.from({ length: 100 }, publish));
    expect(calls).toEqual(['put mooncake/ram/own', 'put mooncake/ram/own']);
    expect(seen).toHaveLength(100);
    expect((await client.fetchSegment('own')).buffers).toHaveLength(100);
  });

  it('writes nothing for a segment without a transport', async () => {
    const { client, calls } = fixture();
    await client.publishSegment(draftOf(1, []));
    await client.withdrawSegment();
    expect(calls).toEqual([]);
  });

  it('withdraws after what is still being written, and only what it wrote', async () => {
    const { client, calls, documents } = fixture();
    documents.set('mooncake/rpc_meta/own', 'of another engine');
    const publishing = client.publishSegment(draftOf());
    await Promise.all([publishing, client.withdrawSegment(), client.withdrawRpcMeta()]);
    expect(calls).toEqual(['put mooncake/ram/own', 'remove mooncake/ram/own']);
    expect(documents.has('mooncake/ram/own')).toBe(false);
    expect(documents.has('mooncake/rpc_meta/own')).toBe(true);
  });

  it('withdraws what may have been written by a publication that failed', async () => {
    const { client, calls } = fixture(
      {},
      { put: () => Promise.reject(new EngineError('ERR_TE_TIMEOUT', 'late')) },
    );
    await failure(client.publishRpcMeta({ host: 'h', rpcPort: 1 }));
    await client.withdrawRpcMeta();
    expect(calls).toEqual(['remove mooncake/rpc_meta/own']);
  });

  it('names key and store of what is missing', async () => {
    const { client } = fixture({ clusterId: 'c/' });
    const error = await failure(client.fetchSegment('peer'));
    expect(error.code).toBe('ERR_TE_SEGMENT_NOT_FOUND');
    expect(error.message).toContain('"mooncake/c/ram/peer" of memory://test');
    expect(error.details).toEqual({ key: 'mooncake/c/ram/peer', store: 'memory://test' });
    const address = await failure(client.fetchRpcMeta('peer'));
    expect(address.details['key']).toBe('mooncake/c/rpc_meta/peer');
  });

  it.each(['{', '[]', '{"name":"p"}', '{"name":"p","protocol":"tcp","tcp_data_port":"x"}'])(
    'refuses the document %s',
    async (text) => {
      const { client, documents } = fixture();
      documents.set('mooncake/ram/peer', text);
      const error = await failure(client.fetchSegment('peer'));
      expect(error.code).toBe('ERR_TE_METADATA');
      expect(error.message).toContain('mooncake/ram/peer');
      expect(error.cause).toBeInstanceOf(EngineError);
    },
  );

  it('refuses an address without a host, and one with a wrong port', async () => {
    const { client, documents } = fixture();
    for (const text of ['{}', '{"ip_or_host_name":"h","rpc_port":70000}']) {
      documents.set('mooncake/rpc_meta/peer', text);
      expect((await failure(client.fetchRpcMeta('peer'))).code).toBe('ERR_TE_METADATA');
    }
  });

  it('wraps what a store throws, and keeps what is an EngineError', async () => {
    const plain = fixture({}, { get: () => Promise.reject(new Error('disk')) });
    const error = await failure(plain.client.fetchSegment('peer'));
    expect([error.code, (error.cause as Error).message]).toEqual(['ERR_TE_METADATA', 'disk']);
    const own = new EngineError('ERR_TE_TIMEOUT', 'slow');
    const typed = fixture({}, { get: () => Promise.reject(own) });
    expect(await failure(typed.client.fetchSegment('peer'))).toBe(own);
  });

  it('gives up a store that never answers', async () => {
    const clock = new FakeClock();
    const never = () => new Promise<never>(() => undefined);
    const { client } = fixture({ clock, timeoutMs: 1_000 }, { get: never, put: never });
    const fetching = failure(client.fetchSegment('peer', { timeoutMs: 200 }));
    const publishing = failure(client.publishSegment(draftOf()));
    const joined = failure(client.publishSegment(draftOf()));
    for (const error of await clock.runUntil(Promise.all([fetching, publishing, joined])))
      expect(error.code).toBe('ERR_TE_TIMEOUT');
    clock.runAll();
    expect(clock.nowMs()).toBeLessThanOrEqual(3_000);
    expect(clock.pendingTimers).toBe(0);
  });

  it('ends the wait of one caller when he aborts, and the publication goes on', async () => {
    const { client, documents } = fixture();
    const controller = new AbortController();
    const publishing = client.publishSegment(draftOf(), { signal: controller.signal });
    const other = client.publishSegment(draftOf(3));
    controller.abort(new Error('enough'));
    await expect(publishing).rejects.toThrow('enough');
    await other;
    expect(documents.get('mooncake/ram/own')).toContain('"addr":12288');
    const { signal } = controller;
    await expect(client.fetchSegment('own', { signal })).rejects.toThrow('enough');
  });
});

describe('StoreDirectory', () => {
  const open = (memory: MemoryDirectory, name: string) =>
    new StoreDirectory({ store: new MemoryStore(memory), name, identity, now });

  it('finds a segment and the address of its engine, also under another name', async () => {
    const memory = new MemoryDirectory();
    const target = open(memory, 'target');
    const initiator = open(memory, 'initiator');
    await target.announce('target', { host: '10.0.0.7', rpcPort: 15_001 });
    await target.publish(draftOf(1), 'target');
    memory.documents.set('mooncake/ram/alias', memory.documents.get('mooncake/ram/target') ?? '');
    for (const name of ['target', '//target', 'alias'])
      expect(await initiator.resolve(name)).toMatchObject({
        host: '10.0.0.7',
        rpcPort: 15_001,
        descriptor: { name: 'target', tcpDataPort: 9 },
      });
    expect(await initiator.locate('/target')).toEqual({ host: '10.0.0.7', rpcPort: 15_001 });
    await target.withdraw();
    expect([...memory.documents.keys()]).toEqual(['mooncake/ram/alias']);
    expect((await failure(initiator.resolve('target'))).code).toBe('ERR_TE_SEGMENT_NOT_FOUND');
  });

  it('spends the time of a call once, not for each of its steps', async () => {
    const clock = new FakeClock();
    const memory = new MemoryStore();
    await memory.put('mooncake/ram/a', '{"name":"a","protocol":"tcp","buffers":[]}');
    await memory.put('mooncake/rpc_meta/a', '{"ip_or_host_name":"h","rpc_port":1}');
    const granted: (number | undefined)[] = [];
    const store: MetadataStore = {
      description: 'slow',
      get: (key, bounds) => {
        granted.push(bounds?.timeoutMs);
        clock.advance(300);
        return memory.get(key);
      },
      put: () => Promise.resolve(),
      remove: () => Promise.resolve(),
      close: () => memory.close(),
    };
    const directory = new StoreDirectory({ store, name: 'own', identity, clock });
    await directory.resolve('a', { timeoutMs: 1_000 });
    expect(granted).toEqual([1_000, 700]);
  });

  it('tries to withdraw both documents and reports the failure', async () => {
    const removed: string[] = [];
    const memory = new MemoryStore();
    const store: MetadataStore = {
      description: 'failing',
      get: (key) => memory.get(key),
      put: (key, value) => memory.put(key, value),
      remove: (key) => {
        removed.push(key);
        return Promise.reject(new EngineError('ERR_TE_METADATA', key));
      },
      close: () => memory.close(),
    };
    const directory = new StoreDirectory({ store, name: 'own', identity });
    await directory.announce('own', { host: 'h', rpcPort: 1 });
    await directory.publish(draftOf(), 'own');
    expect((await failure(directory.withdraw())).message).toContain('rpc_meta/own');
    expect(removed).toEqual(['mooncake/rpc_meta/own', 'mooncake/ram/own']);
  });

  it('closes its store and says so afterwards', async () => {
    const store = new MemoryStore();
    const directory = new StoreDirectory({ store, name: 'own', identity });
    await Promise.all([directory.close(), directory.close()]);
    for (const call of [
      directory.resolve('a'),
      directory.locate('a'),
      directory.publish(draftOf(), 'own'),
      directory.announce('own', { host: 'h', rpcPort: 1 }),
      directory.withdraw(),
    ])
      expect((await failure(call)).code).toBe('ERR_TE_CLOSED');
    expect((await failure(store.get('k'))).code).toBe('ERR_TE_CLOSED');
  });
});
