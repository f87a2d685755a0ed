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
    ['http://h:8080/metadata', 'http', 'h:8080/metadata'],
    ['https://h/metadata', 'https', 'h/metadata'],
    ['etcd://a:2379,b:2379', 'etcd', 'a:2379,b:2379'],
    ['redis://h:6379', 'redis', 'h:6379'],
    ['10.0.0.7:2379', 'etcd', '10.0.0.7:2379'],
  ])('%s', (uri, scheme, target) => {
    expect(parseConnectionString(uri)).toEqual({ scheme, target, uri });
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
    ['etcd://127.0.0.1:2379', /scheme "etcd"/],
    ['127.0.0.1:2379', /scheme "etcd" \(text without a scheme/],
    ['redis://user:secret@127.0.0.1:6379', /"redis:\/\/127\.0\.0\.1:6379".*scheme "redis"/],
  ])('refuses %s for now, by name', async (uri, message) => {
    const error = await openStore(uri).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(EngineError);
    expect((error as EngineError).code).toBe('ERR_TE_NOT_SUPPORTED_TRANSPORT');
    expect((error as EngineError).message).toMatch(message);
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
