import { applicableCases, storeCompliance } from '@transfer-engine/core/testing';
import { createMetadataServer, openStore } from '@transfer-engine/metadata';
import { describe, it } from 'vitest';

describe.each(['allow', 'refuse', 'refuse-changes'] as const)(
  'HTTP store, against a server that answers "%s" to a second rpc_meta document',
  (rpcMetaOverwrite) => {
    it.each(applicableCases(storeCompliance, []))('$name', async (compliance) => {
      const server = await createMetadataServer({ port: 0, rpcMetaOverwrite, closeGraceMs: 100 });
      try {
        await compliance.run({ openStore: () => openStore(server.url) });
      } finally {
        await server.close();
      }
    });
  },
);
