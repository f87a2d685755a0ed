import { openStore } from '@transfer-engine/metadata';
import { describe, expect, it, onTestFinished } from 'vitest';
import { canRun, startEtcd } from '../support/services.ts';
import { freePorts } from '../support/free-port.ts';

describe.runIf(canRun('etcd')).each(['etcd', 'etcd+http'])('%s', (scheme) => {
  async function open(target: string) {
    const store = await openStore(`${scheme}://${target}`);
    onTestFinished(() => store.close());
    return store;
  }

  it('goes to whichever endpoint answers', async () => {
    await using service = await startEtcd();
    const nobody = await freePorts(2);
    const target = `127.0.0.1:${nobody}; 127.0.0.1:${service.port} ,127.0.0.1:${nobody + 1}`;
    const store = await open(target);
    for (let round = 0; round < 10; round += 1) {
      await store.put('k', `${round}`);
      expect(await store.get('k')).toBe(`${round}`);
    }
    const synced = new Promise((resolve) => store.watch?.('k', resolve));
    expect(await synced).toEqual({ type: 'sync', key: 'k' });
  });

  it('works with users and passwords, also when the server forgets its tokens', async () => {
    await using service = await startEtcd();
    const post = async (path: string, body: object) => {
      const url = `http://127.0.0.1:${service.port}/v3/auth/${path}`;
      const response = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
      expect([path, response.status]).toEqual([path, 200]);
    };
    await post('user/add', { name: 'root', password: 'se:cr@t' });
    await post('role/add', { name: 'root' });
    await post('user/grant', { user: 'root', role: 'root' });
    await post('enable', {});
    const store = await open(`root:se%3Acr%40t@127.0.0.1:${service.port}`);
    await store.put('k', 'v');
    expect(await store.get('k')).toBe('v');
    for (const credentials of ['', 'root:wrong@', 'nobody:x@']) {
      const refused = await open(`${credentials}127.0.0.1:${service.port}`);
      const error: unknown = await refused.get('k').catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'ERR_TE_METADATA' });
      expect(String(error)).toContain('password of an etcd user');
    }
  });
});
