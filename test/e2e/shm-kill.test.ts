import { readdirSync } from 'node:fs';
import { cleanStaleObjects } from '@transfer-engine/transport-shm';
import { describe, expect, it } from 'vitest';
import { cleanupAfterEach } from '../support/cleanup.ts';
import { EngineProcess } from '../support/engine-process.ts';
import { scratchShm } from '../support/scratch-shm.ts';
import { until } from '../support/waiting.ts';

const MIB = 1024 * 1024;
const REGION_BYTES = 16 * MIB;
/** Of each side; `npm run soak` asks for more. */
const KILLS = Number(process.env['TE_SHM_KILLS'] ?? 10);
const cleanup = cleanupAfterEach();

/** What a transfer ends with whose peer is gone: over shared memory, or over TCP after it. */
const PEER_GONE: unknown = expect.stringMatching(/^ERR_TE_(PEER_LOST|CONNECT_FAILED)$/);

async function startPair(directory: string, round: number) {
  const options = { shmOptions: { directory, safe: round % 3 === 2 } };
  const target = await EngineProcess.start(cleanup, options);
  const initiator = await EngineProcess.start(cleanup, options);
  return { target, initiator };
}

/** Keeps memory moving both ways until something happens. */
async function stream(initiator: EngineProcess, target: EngineProcess, round: number) {
  const far = await target.call('allocate', { length: REGION_BYTES });
  const near = await initiator.call('register', { length: 2 * REGION_BYTES });
  const segment = await initiator.call('open', { name: target.name });
  // Blocks from a page to all of it, so that kills meet copies of every kind.
  const length = Math.min(4096 << round, REGION_BYTES);
  const id = await initiator.call('startStream', {
    segment: segment.id,
    region: near.id,
    remoteAddress: far.address,
    length,
  });
  const moved = async () => (await initiator.call('streamRounds', { stream: id })) >= 3;
  await until(moved, 20_000, 'three rounds of the stream');
  const { transports } = await initiator.call('stats');
  expect(transports['shm']?.['bytes']).toBeGreaterThanOrEqual(6 * length);
  const request = { segment: segment.id, region: near.id, remoteAddress: far.address, length };
  return { id, request };
}

describe(`killed ${KILLS} times in the middle of transfers`, () => {
  it('a target: its peer gets typed errors, serves on, and everything is cleaned', async () => {
    const directory = scratchShm(cleanup);
    for (let round = 0; round < KILLS; round += 1) {
      const { target, initiator } = await startPair(directory, round);
      const { id, request } = await stream(initiator, target, round);
      await target.kill();
      const late = initiator.call('transfer', { opcode: 'write', request });
      await expect(late).rejects.toMatchObject({ code: PEER_GONE });
      const { failures } = await initiator.call('stopStream', { stream: id });
      for (const failure of failures) expect(failure).toMatchObject({ code: PEER_GONE });
      const stale = cleanStaleObjects({ directory });
      expect(stale.map(({ pid }) => pid)).toEqual([target.pid, target.pid]);
      // The survivor and a newcomer go on.
      const second = await EngineProcess.start(cleanup, { shmOptions: { directory } });
      const again = await stream(initiator, second, round);
      expect(await initiator.call('stopStream', { stream: again.id })).toMatchObject({
        failures: [],
      });
      await initiator.call('close');
      await second.call('close');
      expect(readdirSync(directory)).toEqual([]);
      await initiator.kill();
      await second.kill();
    }
  }, 600_000);

  it('an initiator: its peer keeps its memory, gives it back, and everything is cleaned', async () => {
    const directory = scratchShm(cleanup);
    for (let round = 0; round < KILLS; round += 1) {
      const { target, initiator } = await startPair(directory, round);
      await stream(initiator, target, round);
      await initiator.kill();
      // Not held up by the dead: it may have been in the middle of a copy.
      await target.call('unregister', { region: 1 });
      const second = await EngineProcess.start(cleanup, { shmOptions: { directory } });
      const { id } = await stream(second, target, round);
      expect(await second.call('stopStream', { stream: id })).toMatchObject({ failures: [] });
      await second.call('close');
      await target.call('close');
      cleanStaleObjects({ directory });
      expect(readdirSync(directory)).toEqual([]);
      await target.kill();
      await second.kill();
    }
  }, 600_000);
});
