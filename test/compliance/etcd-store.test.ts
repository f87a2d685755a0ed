import { applicableCases, storeCompliance } from '@transfer-engine/core/testing';
import { openStore } from '@transfer-engine/metadata';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { canRun, startEtcd, type Service } from '../support/services.ts';

/** The default of etcd. */
const LIMIT = 1.5 * 1024 * 1024;
const LARGE = 10 * 1024 * 1024;

describe.runIf(canRun('etcd'))('etcd', () => {
  let standard: Service;
  let roomy: Service;

  beforeAll(async () => {
    [standard, roomy] = await Promise.all([startEtcd(), startEtcd({ maxRequestBytes: LARGE })]);
  });
  afterAll(async () => {
    await Promise.all([standard?.kill(), roomy?.kill()]);
  });

  describe.each(['etcd', 'etcd+http'])('%s://', (scheme) => {
    const abilities = ['list', 'watch', 'lease', 'limit', 'restart'] as const;
    it.each(applicableCases(storeCompliance, abilities))('$name', async (compliance) => {
      await compliance.run({
        openStore: () => openStore(`${scheme}://127.0.0.1:${standard.port}`),
        limitBytes: LIMIT,
        restart: standard.restart,
      });
    });

    const large = storeCompliance.filter(({ requires }) => requires.includes('large'));
    it.each(large)('$name, where the server is configured for them', async (compliance) => {
      await compliance.run({
        openStore: () => openStore(`${scheme}://127.0.0.1:${roomy.port}`),
      });
    });
  });
});
