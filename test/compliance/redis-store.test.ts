import { applicableCases, storeCompliance } from '@transfer-engine/core/testing';
import { openStore } from '@transfer-engine/metadata';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { canRun, startRedis, type Service } from '../support/services.ts';

const LIMIT = 9 * 1024 * 1024;

const variants: Record<string, string[]> = {
  'with keyspace notifications': ['--notify-keyspace-events', 'KEA'],
  'without notifications and without scripts': [
    ...['--user', 'default', 'on', 'nopass', '~*', '&*', '+@all', '-eval', '-config'],
  ],
};

describe.runIf(canRun('redis-server')).each(Object.entries(variants))('redis %s', (_name, args) => {
  let server: Service;

  beforeAll(async () => {
    server = await startRedis('--proto-max-bulk-len', String(LIMIT), ...args);
  });
  afterAll(() => server?.kill());

  it.each(
    applicableCases(storeCompliance, ['list', 'watch', 'lease', 'large', 'limit', 'restart']),
  )('$name', async (compliance) => {
    await compliance.run({
      openStore: () => openStore(`redis://127.0.0.1:${server.port}`, { pollMs: 50 }),
      limitBytes: LIMIT,
      restart: server.restart,
    });
  });
});
