import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  applicableCases,
  pairFixture,
  transportCompliance,
  type TargetObject,
  type TransportEnd,
} from '@transfer-engine/core/testing';
import { BufferStore } from '@transfer-engine/core/transport';
import { shm, type ShmOptions } from '@transfer-engine/transport-shm';
import { afterAll, describe, expect, it } from 'vitest';

const modes: Record<string, ShmOptions> = { mapped: {}, 'by file I/O': { safe: true } };

for (const [initiator, initiatorOptions] of Object.entries(modes)) {
  for (const [target, targetOptions] of Object.entries(modes)) {
    describe(`shared memory, initiator ${initiator}, target ${target}`, () => {
      const directory = mkdtempSync('/dev/shm/te-compliance-');
      /** Sees the same objects as mapped memory, whatever the target does. */
      const windows = shm({ directory });
      afterAll(() => {
        const left = readdirSync(directory);
        rmSync(directory, { recursive: true });
        expect(left).toEqual([]);
      });

      const fixture = pairFixture(() => {
        const closing: (() => Promise<void>)[] = [];
        return {
          factory: (role) =>
            shm({ directory, ...(role === 'target' ? targetOptions : initiatorOptions) }),
          targetMemory: async (end, length) => {
            const allocated = await end.transport.allocate?.({ length, location: '*' });
            if (allocated === undefined) throw new Error('shared memory can be allocated');
            closing.push(() => allocated.release());
            const { store } = allocated;
            if (store instanceof BufferStore) return { store, bytes: store.bytes };
            return await look(end, windows, store, length, closing);
          },
          loseTarget: ({ transport }) => transport.close(),
          dispose: async () => {
            for (const step of closing.reverse()) await step();
          },
        };
      });
      for (const { name, run } of applicableCases(transportCompliance, [
        'applied-writes',
        'peer-loss',
      ])) {
        it(name, () => run(fixture));
      }
    });
  }
}

/** A window on an object that the target itself cannot see as memory. */
async function look(
  end: TransportEnd,
  windows: ReturnType<typeof shm>,
  store: TargetObject['store'],
  length: number,
  closing: (() => Promise<void>)[],
): Promise<TargetObject> {
  const path = (store as unknown as { readonly path: string }).path;
  const viewer = windows.create(end.host);
  await viewer.start();
  const seen = await viewer.allocate?.({
    length,
    location: '*',
    path: join('/', path).split('/').at(-1) ?? '',
  });
  if (!(seen?.store instanceof BufferStore)) throw new Error('a window is mapped memory');
  closing.push(async () => {
    await seen.release();
    await viewer.close();
  });
  return { store, bytes: seen.store.bytes };
}
