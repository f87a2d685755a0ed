import { applicableCases, storeCompliance } from '@transfer-engine/core/testing';
import { openStore, type OpenStoreOptions } from '@transfer-engine/metadata';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  canRun,
  redisCommand,
  startRedis,
  startRedisCluster,
  startSentinel,
  type Service,
} from '../support/services.ts';

const cases = applicableCases(storeCompliance, ['list', 'watch', 'lease']);

const forms: Record<string, () => Promise<{ uri: string; services: Service[] }>> = {
  async 'a cluster'() {
    const node = await startRedisCluster();
    return { uri: `redis+cluster://127.0.0.1:${node.port}`, services: [node] };
  },
  async 'a server behind a sentinel'() {
    const master = await startRedis();
    const sentinel = await startSentinel(master.port);
    return {
      uri: `redis+sentinel://127.0.0.1:${sentinel.port}/mymaster`,
      services: [sentinel, master],
    };
  },
  async 'a database with a number, of a user with a password'() {
    const user = ['--user', 'engine', 'on', '>pa:ss@word', '~*', '&*', '+@all'];
    const server = await startRedis(...user, '--requirepass', 'other');
    return { uri: `redis://engine:pa%3Ass%40word@127.0.0.1:${server.port}/5`, services: [server] };
  },
};

describe.runIf(canRun('redis-server'))('redis as', () => {
  it.each(Object.entries(forms))('%s keeps the contract', async (_name, start) => {
    const { uri, services } = await start();
    onTestFinished(async () => {
      for (const service of services) await service.kill();
    });
    const openOne = () => openStore(uri, { pollMs: 50 });
    const failures: string[] = [];
    for (const { name, run } of cases) {
      await run({ openStore: openOne, patienceMs: 5_000 }).catch((error: unknown) =>
        failures.push(`${name}: ${String(error)}`),
      );
    }
    expect(failures).toEqual([]);
  });

  it('says when the password is wrong or missing, and takes it from MC_REDIS_PASSWORD', async () => {
    await using server = await startRedis('--requirepass', 'secret');
    const attempt = async (uri: string, options: OpenStoreOptions): Promise<string> => {
      const store = await openStore(uri, { environment: {}, ...options });
      onTestFinished(() => store.close());
      return store.put('k', 'v', { timeoutMs: 2_000 }).then(
        () => 'ok',
        (error: unknown) => String(error),
      );
    };
    const uri = `redis://127.0.0.1:${server.port}`;
    for (const [given, options] of [
      [uri, {}],
      [`redis://:wrong@127.0.0.1:${server.port}`, {}],
    ] as const) {
      const message = await attempt(given, options);
      expect(message).toMatch(/ERR_TE_METADATA.*(NOAUTH|WRONGPASS).*password/);
      expect(message).not.toContain('wrong@');
    }
    expect(await attempt(uri, { password: 'secret' })).toBe('ok');
    expect(await attempt(uri, { environment: { MC_REDIS_PASSWORD: 'secret' } })).toBe('ok');
  });

  it('uses the database that MC_REDIS_DB_INDEX names', async () => {
    await using server = await startRedis();
    const store = await openStore(`redis://127.0.0.1:${server.port}`, {
      environment: { MC_REDIS_DB_INDEX: '7' },
    });
    onTestFinished(() => store.close());
    await store.put('k', 'v');
    expect(await redisCommand(server.port, 'INFO keyspace')).toContain('db7:keys=1');
  });
});
