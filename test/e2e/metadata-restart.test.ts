import { describe, expect, it } from 'vitest';
import { openStore } from '@transfer-engine/metadata';
import { cleanupAfterEach } from '../support/cleanup.ts';
import { EngineProcess, type HostRegion, type HostSegment } from '../support/engine-process.ts';
import { freePorts } from '../support/free-port.ts';
import { storeModes } from '../support/metadata-modes.ts';
import { until, within } from '../support/waiting.ts';

const LENGTH = 200_000;
/** An initiator that has the segment open is back at work this soon. */
const BACK_MS = 2_000;
/** Documents that a store lost are back this soon. */
const REPUBLISHED_MS = 5_000;

const cleanup = cleanupAfterEach();

const request = (
  segment: HostSegment,
  region: HostRegion,
  served: { readonly address: bigint },
) => ({
  segment: segment.id,
  region: region.id,
  remoteAddress: served.address,
  length: LENGTH,
});

/**
 * Writes until a write has succeeded, always to where the segment says; returns the address.
 *
 * The segment is refreshed by the engine alone: the document is only looked at.
 */
async function writeUntilDone(
  initiator: EngineProcess,
  segment: HostSegment,
  region: HostRegion,
): Promise<bigint> {
  return await within(
    until(
      async () => {
        const { buffers } = await initiator.call('look', { segment: segment.id });
        const [buffer] = buffers;
        if (buffer === undefined) return undefined;
        try {
          await initiator.call('transfer', {
            opcode: 'write',
            request: request(segment, region, buffer),
          });
          return buffer.address;
        } catch {
          return undefined;
        }
      },
      BACK_MS,
      'a write after the restart',
    ),
    BACK_MS + 1_000,
    'a write after the restart',
  );
}

async function killAndRestart(options: {
  readonly initiator: EngineProcess;
  readonly startTarget: () => Promise<EngineProcess>;
  readonly name: (target: EngineProcess) => string;
}): Promise<void> {
  const { initiator, startTarget, name } = options;
  const region = await initiator.call('register', { length: LENGTH });
  let target = await startTarget();
  let served = await target.call('register', { length: LENGTH, seed: 1 });
  const segment = await initiator.call('open', { name: name(target) });
  for (const round of [1, 2]) {
    await initiator.call('fill', { region: region.id, seed: round });
    await initiator.call('transfer', {
      opcode: 'write',
      request: request(segment, region, served),
    });
    const dead = served.address;
    await target.kill();
    target = await startTarget();
    // Memory of the new one that nobody may touch, and the buffer for the initiator.
    served = await target.call('register', { length: LENGTH, seed: 7 });
    await initiator.call('fill', { region: region.id, seed: 100 + round });
    const address = await writeUntilDone(initiator, segment, region);
    expect(address).toBe(served.address);
    expect(address).not.toBe(dead);
    expect(await target.call('check', { region: served.id, seed: 100 + round })).toBe(-1);
  }
}

describe('a target that is killed and started again under its name', () => {
  it('in P2P mode, at the same port', async () => {
    const port = await freePorts(1);
    const initiator = await EngineProcess.start(cleanup);
    await killAndRestart({
      initiator,
      startTarget: () => EngineProcess.start(cleanup, { name: `127.0.0.1:${port}` }),
      name: (target) => target.name,
    });
  });

  it.each(storeModes.filter(({ runs }) => runs))('in $title mode, at other ports', async (mode) => {
    const { uri, stop } = await mode.start();
    cleanup(stop);
    const common = { store: uri, host: '127.0.0.1' };
    const initiator = await EngineProcess.start(cleanup, { ...common, name: 'initiator' });
    await killAndRestart({
      initiator,
      startTarget: () => EngineProcess.start(cleanup, { ...common, name: 'target' }),
      name: () => 'target',
    });
  });
});

describe('a store that is killed and started again, empty, in the middle of a run', () => {
  it.each(storeModes.filter(({ runs }) => runs))('in $title mode', async (mode) => {
    const { uri, stop, restart } = await mode.start();
    cleanup(stop);
    const common = { store: uri, host: '127.0.0.1' };
    const initiator = await EngineProcess.start(cleanup, { ...common, name: 'initiator' });
    const target = await EngineProcess.start(cleanup, { ...common, name: 'target' });
    const region = await initiator.call('register', { length: 2 * LENGTH });
    const served = await target.call('register', { length: LENGTH });
    const segment = await initiator.call('open', { name: 'target' });
    const stream = await initiator.call('startStream', request(segment, region, served));
    const rounds = async (more: number) => {
      const from = await initiator.call('streamRounds', { stream });
      await until(
        async () => (await initiator.call('streamRounds', { stream })) >= from + more,
        10_000,
        `${more} rounds of the stream`,
      );
    };
    await rounds(5);
    await restart(async () => {
      await rounds(20);
      // Who is not known yet cannot be found, and that is said in time.
      await expect(
        within(initiator.call('open', { name: 'unknown', timeoutMs: 1_500 }), 4_000, 'a refusal'),
      ).rejects.toMatchObject({ code: expect.stringMatching(/METADATA|TIMEOUT/) as string });
    });
    const reader = await openStore(uri);
    cleanup(() => reader.close());
    const keys = ['initiator', 'target'].flatMap((name) => [
      `mooncake/ram/${name}`,
      `mooncake/rpc_meta/${name}`,
    ]);
    await until(
      async () => {
        const found = await Promise.all(keys.map((key) => reader.get(key).catch(() => undefined)));
        return found.every((value) => value !== undefined);
      },
      REPUBLISHED_MS,
      'the return of the documents',
    );
    await rounds(20);
    const { failures } = await initiator.call('stopStream', { stream });
    expect(failures).toEqual([]);
    // New opens work, and a clean end leaves nothing.
    const late = await EngineProcess.start(cleanup, { ...common, name: 'late' });
    const reopened = await late.call('open', { name: 'target' });
    expect(reopened.buffers.map(({ address }) => address)).toEqual([served.address]);
    for (const engine of [late, initiator, target]) await engine.call('close');
    for (const key of keys) expect(await reader.get(key)).toBeUndefined();
  });
});
