import { readFileSync, readdirSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createEngine, type Engine } from '@transfer-engine/core';
import { shm, type ShmOptions } from '@transfer-engine/transport-shm';
import { describe, expect, it } from 'vitest';
import { cleanupAfterEach } from '../support/cleanup.ts';
import { scratchShm } from '../support/scratch-shm.ts';

const ROUNDS = 10_000;
const BYTES = 64 * 1024;
const GROWTH_BYTES = 64 * 1024 * 1024;
const cleanup = cleanupAfterEach();

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** What this process holds, after everything that can be collected was. */
async function holdings(directory: string) {
  for (let round = 0; round < 10; round += 1) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const maps = readFileSync('/proc/self/maps', 'latin1').split('\n');
  return {
    mappings: maps.filter((line) => line.includes(directory)).length,
    allMappings: maps.length,
    descriptors: readdirSync('/proc/self/fd').length,
    residentBytes: process.memoryUsage.rss(),
    objects: readdirSync(directory).length,
  };
}

async function engine(options: ShmOptions): Promise<Engine> {
  const made = await createEngine({
    name: '127.0.0.1',
    transports: [shm(options)],
    environment: {},
  });
  cleanup(() => made.close());
  return made;
}

async function rounds(initiator: Engine, target: Engine, count: number): Promise<void> {
  const local = Buffer.alloc(BYTES);
  const back = Buffer.alloc(16);
  for (let round = 0; round < count; round += 1) {
    const region = await target.allocateMemory(BYTES, { transport: 'shm', publish: false });
    const segment = await initiator.openSegment(target.segmentName);
    local.writeUInt32LE(round, BYTES - 4);
    await initiator.write({ segment, local, remoteAddress: region.address });
    await region.read(BYTES - 16, back);
    expect(back.readUInt32LE(12)).toBe(round);
    await segment.close();
    await region.unregister({ publish: false });
  }
}

describe.each([
  ['mapped', false],
  ['by file I/O', true],
])('memory and segments %s', (_mode, safe) => {
  it(`${ROUNDS} rounds of allocate, open, transfer and close leave nothing`, async () => {
    const directory = scratchShm(cleanup);
    const target = await engine({ directory, safe });
    const initiator = await engine({ directory, safe });
    await rounds(initiator, target, 500);
    const before = await holdings(directory);
    await rounds(initiator, target, ROUNDS);
    const after = await holdings(directory);
    expect(after.mappings).toBe(before.mappings);
    expect(after.descriptors).toBe(before.descriptors);
    expect(after.objects).toBe(before.objects);
    // The runtime's own heap takes some hundred mappings; ours would be one or more a round.
    expect(after.allMappings - before.allMappings).toBeLessThan(ROUNDS / 10);
    expect(after.residentBytes - before.residentBytes).toBeLessThan(GROWTH_BYTES);
  }, 300_000);
});
