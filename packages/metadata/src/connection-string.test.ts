import { EngineError } from '@transfer-engine/core/metadata';
import { describe, expect, it } from 'vitest';
import { parseConnectionString } from './connection-string.ts';
import { openStore } from './open-store.ts';

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof EngineError) return error.code;
    throw error;
  }
  return 'no error';
}

describe('parseConnectionString', () => {
  it.each([
    ['http://h:8080/metadata', 'http', 'http', 'h:8080/metadata'],
    ['https://h/metadata', 'http', 'https', 'h/metadata'],
    ['etcd://a:2379,b:2379', 'etcd', 'etcd', 'a:2379,b:2379'],
    ['etcds://a', 'etcd', 'etcds', 'a'],
    ['etcd+http://a:1,b:2', 'etcd-gateway', 'etcd+http', 'a:1,b:2'],
    ['redis://h:6379', 'redis', 'redis', 'h:6379'],
    ['redis+cluster://h', 'redis', 'redis+cluster', 'h'],
    ['10.0.0.7:2379', 'etcd', 'etcd', '10.0.0.7:2379'],
  ])('%s', (uri, kind, scheme, target) => {
    expect(parseConnectionString(uri)).toEqual({ scheme, kind, target, uri });
  });

  it.each(['', '  ', 'P2PHANDSHAKE', 'HTTP://h', 'ftp://h', 'http://', '://h'])(
    'refuses %j',
    (uri) => {
      expect(codeOf(() => parseConnectionString(uri))).toBe('ERR_TE_INVALID_ARGUMENT');
    },
  );

  it('shows no credentials in its message', () => {
    expect(() => parseConnectionString('mongo://user:secret@h/x')).toThrow(/"mongo:\/\/h\/x"/);
  });
});

describe('openStore', () => {
  it.each([
    ['127.0.0.1:2379', 'etcd://127.0.0.1:2379'],
    ['etcd://us%40er:secret@a:1;b', 'etcd://a:1,b:2379'],
    ['etcd+https://user:secret@[::1]:5, b', 'etcd+https://[::1]:5,b:2379'],
    ['redis://user:secret@h/3', 'redis://h:6379'],
    ['redis+sentinel://a,b:7/main/1', 'redis+sentinel://a:26379,b:7/main'],
    ['rediss+cluster://a:1,[::1]:2', 'rediss+cluster://a:1,[::1]:2'],
  ])('opens %s without sending anything, and hides credentials', async (uri, description) => {
    const store = await openStore(uri, { environment: {} });
    expect([store.description, store.trailingNewline]).toEqual([description, true]);
    expect([typeof store.list, typeof store.watch, typeof store.lease]).toEqual(
      Array(3).fill('function'),
    );
    await store.close();
  });

  it.each([
    'etcd://,',
    'etcd://h:x',
    'etcd://h/path',
    'redis://a,b',
    'redis://h/256',
    'redis://h/x',
    'redis://h/1/2',
    'redis+cluster://h/1',
    'redis://user:secret@h:99999',
  ])('refuses %s, without its credentials', async (uri) => {
    const error = await openStore(uri).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'ERR_TE_INVALID_ARGUMENT' });
    expect((error as EngineError).message).not.toContain('secret');
  });

  it('says that P2PHANDSHAKE is not a store', async () => {
    await expect(openStore('P2PHANDSHAKE')).rejects.toThrow(/createEngine/);
  });

  it('opens an HTTP store without sending anything', async () => {
    const store = await openStore('http://user:secret@127.0.0.1:9/metadata?token=t');
    expect(store.description).toBe('http://127.0.0.1:9/metadata');
    expect(store.trailingNewline).toBe(false);
    await store.close();
  });

  it.each(['http://h/x#y', 'http://h:99999/', 'http:// h/'])('refuses %s', async (uri) => {
    await expect(openStore(uri)).rejects.toMatchObject({ code: 'ERR_TE_INVALID_ARGUMENT' });
  });
});
