import { readFileSync } from 'node:fs';
import {
  decodeRpcMeta,
  decodeSegmentDocument,
  encodeRpcMeta,
  encodeSegmentDocument,
} from '@transfer-engine/core/wire';
import { openStore } from '@transfer-engine/metadata';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { storeModes, type RunningMode } from '../support/metadata-modes.ts';

interface Recording {
  readonly keys: Readonly<Record<string, string>>;
}

function recorded(kind: string): [key: string, text: string][] {
  const file = new URL(`../vectors/te/metadata-${kind}.json`, import.meta.url);
  const recordings = JSON.parse(readFileSync(file, 'utf8')) as Record<string, Recording>;
  return Object.values(recordings).flatMap(({ keys }) => Object.entries(keys));
}

/** What our engine writes when it describes the same. */
function rewritten(key: string, text: string): string {
  if (key.includes('/rpc_meta/')) return encodeRpcMeta(decodeRpcMeta(text));
  const { timestamp } = JSON.parse(text) as { timestamp: string };
  return encodeSegmentDocument(decodeSegmentDocument(text), { timestamp });
}

describe.each(storeModes.filter(({ runs }) => runs))('recorded documents in $title', (mode) => {
  const kind = mode.title.startsWith('etcd') ? 'etcd' : mode.title.toLowerCase();
  let running: RunningMode;
  beforeAll(async () => {
    running = await mode.start();
  });
  afterAll(() => running.stop());

  it('come back as they are, and we write the same bytes', async () => {
    const documents = recorded(kind);
    expect(documents.length).toBeGreaterThan(3);
    const store = await openStore(running.uri);
    try {
      for (const [key, text] of documents) {
        await store.put(key, text);
        const back = (await store.get(key)) ?? '';
        expect(back).toBe(text);
        const own = rewritten(key, back) + (store.trailingNewline === true ? '\n' : '');
        expect(own).toBe(text);
      }
    } finally {
      await store.close();
    }
  });
});
