import { createMetadataServer } from '@transfer-engine/metadata';
import { describe, expect, it } from 'vitest';
import { cleanupAfterEach } from '../support/cleanup.ts';
import {
  EngineProcess,
  type HostOptions,
  type HostRegion,
  type HostSegment,
} from '../support/engine-process.ts';
import { freePorts } from '../support/free-port.ts';

const LENGTH = 300_000;

const cleanup = cleanupAfterEach();

/** What a write to addresses of a dead engine may end with: it finds nobody, or is refused. */
const STALE: unknown = expect.stringMatching(
  /^ERR_TE_(PEER_LOST|CONNECT_FAILED|ADDRESS_REJECTED)$/,
);

/** With and without the extra member that says which start of an engine a document is from. */
const variants = [{ strict: false }, { strict: true }];

describe('a target that comes back under its name, at the same port', () => {
  it.each(variants)('after a crash (strict: $strict)', async ({ strict }) => {
    const port = await freePorts(1);
    const name = `127.0.0.1:${port}`;
    const initiator = await EngineProcess.start(cleanup);
    const region = await initiator.call('register', { length: 2 * LENGTH });
    let open: HostSegment | undefined;
    for (const round of [1, 2, 3]) {
      const target = await EngineProcess.start(cleanup, { name, strict });
      const served = await target.call('register', { length: LENGTH, seed: round });
      const segment = await initiator.call('open', { name });
      expect(segment.buffers.map(({ address }) => address)).toEqual([served.address]);
      await exchange(initiator, region, segment, target, served, 100 + round);
      await notifyAndProbe(initiator, target, name);
      if (open !== undefined) await initiator.call('closeSegment', { segment: open.id });
      open = segment;
      await target.kill();
    }
  });

  it.each(variants)('with a segment that stays open (strict: $strict)', async ({ strict }) => {
    const port = await freePorts(1);
    const name = `127.0.0.1:${port}`;
    const initiator = await EngineProcess.start(cleanup);
    const region = await initiator.call('register', { length: 2 * LENGTH });
    const first = await EngineProcess.start(cleanup, { name, strict });
    const before = await first.call('register', { length: LENGTH, seed: 1 });
    const segment = await initiator.call('open', { name });
    await exchange(initiator, region, segment, first, before, 50);
    await first.kill();
    const second = await EngineProcess.start(cleanup, { name, strict });
    const after = await second.call('register', { length: LENGTH, seed: 2 });
    expect(after.address).not.toBe(before.address);
    const stale = initiator.call('transfer', {
      opcode: 'write',
      request: {
        segment: segment.id,
        region: region.id,
        remoteAddress: before.address,
        length: LENGTH,
      },
    });
    await expect(stale).rejects.toMatchObject({
      code: STALE,
    });
    const fresh = await initiator.call('refresh', { segment: segment.id });
    expect(fresh.buffers.map(({ address }) => address)).toEqual([after.address]);
    await exchange(initiator, region, fresh, second, after, 60);
  });
});

describe('a target that comes back under its name, at other ports', () => {
  it.each(variants)('in an HTTP store (strict: $strict)', async ({ strict }) => {
    const server = await createMetadataServer({ port: 0 });
    cleanup(() => server.close());
    const common: HostOptions = { store: server.url, host: '127.0.0.1' };
    const initiator = await EngineProcess.start(cleanup, { ...common, name: 'initiator' });
    const region = await initiator.call('register', { length: 2 * LENGTH });
    const ports = new Set<number>();
    for (const round of [1, 2, 3]) {
      const target = await EngineProcess.start(cleanup, { ...common, name: 'target', strict });
      ports.add(target.rpcPort).add(target.dataPort);
      const served = await target.call('register', { length: LENGTH, seed: round });
      const segment = await initiator.call('open', { name: 'target' });
      // What the dead one left in the store is not offered again.
      expect(segment.buffers.map(({ address }) => address)).toEqual([served.address]);
      await exchange(initiator, region, segment, target, served, 100 + round);
      await notifyAndProbe(initiator, target, 'target');
      // The last one ends well, the others leave their documents behind.
      if (round === 3) await target.call('close');
      else await target.kill();
    }
    expect(ports.size).toBe(6);
    await initiator.call('close');
    expect(server.size).toBe(0);
  });

  it('with a server that does not let a place be overwritten', async () => {
    const server = await createMetadataServer({ port: 0, rpcMetaOverwrite: 'refuse' });
    cleanup(() => server.close());
    const common: HostOptions = { store: server.url, host: '127.0.0.1' };
    const initiator = await EngineProcess.start(cleanup, { ...common, name: 'initiator' });
    const region = await initiator.call('register', { length: 2 * LENGTH });
    for (const round of [1, 2]) {
      const target = await EngineProcess.start(cleanup, { ...common, name: 'target' });
      const served = await target.call('register', { length: LENGTH, seed: round });
      const segment = await initiator.call('open', { name: 'target' });
      await exchange(initiator, region, segment, target, served, 100 + round);
      await target.kill();
    }
  });
});

/** Reads what the target was filled with, writes something else, and looks at it over there. */
async function exchange(
  initiator: EngineProcess,
  region: HostRegion,
  segment: HostSegment,
  target: EngineProcess,
  served: HostRegion,
  seed: number,
): Promise<void> {
  const request = {
    segment: segment.id,
    region: region.id,
    remoteAddress: served.address,
    length: LENGTH,
  };
  await initiator.call('fill', { region: region.id, seed, length: LENGTH });
  const written = await initiator.call('transfer', { opcode: 'write', request });
  expect(written).toMatchObject({ bytes: LENGTH, durability: 'applied' });
  expect(await target.call('check', { region: served.id, seed })).toBe(-1);
  await initiator.call('transfer', {
    opcode: 'read',
    request: { ...request, localOffset: LENGTH },
  });
  const back = { region: region.id, offset: LENGTH, seed, at: 0 };
  expect(await initiator.call('check', back)).toBe(-1);
}

async function notifyAndProbe(
  initiator: EngineProcess,
  target: EngineProcess,
  name: string,
): Promise<void> {
  const notification = { name: 'from', message: 'here' };
  await initiator.call('notify', { target: name, notification });
  expect(await target.call('takeNotifications')).toMatchObject([notification]);
  expect(await initiator.call('probe', { target: name })).toBe(true);
}
