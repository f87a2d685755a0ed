import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { applicableCases, storeCompliance, type StoreFixture } from '@transfer-engine/core/testing';
import {
  createMetadataServer,
  openStore,
  type MetadataServer,
  type MetadataServerOptions,
} from '@transfer-engine/metadata';
import { describe, it } from 'vitest';

const LIMIT = 9 * 1024 * 1024;

const variants: Record<string, MetadataServerOptions> = {
  'that answers "allow" to a second rpc_meta document': { rpcMetaOverwrite: 'allow' },
  'that answers "refuse"': { rpcMetaOverwrite: 'refuse' },
  'that answers "refuse-changes"': { rpcMetaOverwrite: 'refuse-changes' },
  'that wants a token and keeps a file': { token: 'secret', dataFile: 'documents' },
};

describe.each(Object.entries(variants))('HTTP store, against a server %s', (_name, options) => {
  const cases = applicableCases(storeCompliance, [
    ...(['list', 'watch', 'lease', 'large', 'limit', 'restart'] as const),
  ]);

  it.concurrent.each(cases)('$name', async (compliance) => {
    const folder = mkdtempSync(join(tmpdir(), 'transfer-engine-compliance-'));
    const own = options.dataFile === undefined ? {} : { dataFile: join(folder, options.dataFile) };
    const start = (port: number) =>
      createMetadataServer({
        ...options,
        ...own,
        port,
        maxValueBytes: LIMIT,
        closeGraceMs: 20,
      });
    let server: MetadataServer = await start(0);
    const { url, port } = server;
    const fixture: StoreFixture = {
      openStore: () => openStore(url, options.token === undefined ? {} : { token: options.token }),
      limitBytes: LIMIT,
      async restart(whileDown) {
        await server.close();
        rmSync(join(folder, 'documents'), { force: true });
        await whileDown();
        server = await start(port);
      },
    };
    try {
      await compliance.run(fixture);
    } finally {
      await server.close();
      rmSync(folder, { recursive: true });
    }
  });
});
