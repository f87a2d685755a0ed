import { createEngine } from '@transfer-engine/core';
import { tcp } from '@transfer-engine/transport-tcp';
import { expect, it } from 'vitest';
import { cleanupAfterEach } from '../support/cleanup.ts';
import { EngineProcess } from '../support/engine-process.ts';
import { mismatch, patternBytes } from '../support/patterns.ts';
import { until } from '../support/waiting.ts';

const PEERS = 64;
const ROUNDS = 5;
/** Not a multiple of anything, and cut into several pieces of the wire. */
const BLOCK_BYTES = 300_007;

const cleanup = cleanupAfterEach();

it('64 peers write to and read from one target at once', async () => {
  const target = await EngineProcess.start(cleanup);
  const resources = await target.call('resources');
  const served = await target.call('register', { length: PEERS * BLOCK_BYTES, seed: 1 });
  const engines = await Promise.all(
    Array.from({ length: PEERS }, () => createEngine({ environment: {}, transports: [tcp()] })),
  );
  for (const engine of engines) cleanup(() => engine.close());
  const segments = await Promise.all(engines.map((engine) => engine.openSegment(target.name)));
  for (let round = 0; round < ROUNDS; round += 1) {
    await Promise.all(
      engines.map(async (engine, peer) => {
        const segment = segments[peer] as (typeof segments)[number];
        const seed = round * PEERS + peer;
        const remoteAddress = served.address + BigInt(peer * BLOCK_BYTES);
        const data = patternBytes(BLOCK_BYTES, seed);
        const written = await engine.write({ segment, local: data, remoteAddress });
        expect(written).toMatchObject({ bytes: BLOCK_BYTES, attempts: 1 });
        data.fill(0);
        await engine.read({ segment, local: data, remoteAddress });
        expect(mismatch(data, seed)).toBe(-1);
      }),
    );
  }
  for (let peer = 0; peer < PEERS; peer += 1) {
    const seed = (ROUNDS - 1) * PEERS + peer;
    const range = { region: served.id, offset: peer * BLOCK_BYTES, length: BLOCK_BYTES, at: 0 };
    expect(await target.call('check', { ...range, seed }), `peer ${peer}`).toBe(-1);
  }
  const name = target.name;
  await Promise.all(
    engines.map((engine, peer) => engine.notify(name, { name: `${peer}`, message: 'done' })),
  );
  const received = (await target.call('takeNotifications')).map((one) => Number(one.name));
  expect(received.sort((a, b) => a - b)).toEqual(Array.from({ length: PEERS }, (_, at) => at));
  await Promise.all(engines.map((engine) => engine.close()));
  const same = async () => (await target.call('resources')).join() === resources.join();
  await until(same, 20_000, 'the resources from before the peers came');
  expect((await target.call('stats')).transports['tcp']).toMatchObject({
    sessionsOpen: 0,
    sessionsTruncated: 0,
    requestsRefused: 0,
  });
});
