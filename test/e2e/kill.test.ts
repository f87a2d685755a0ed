import { TaskState } from '@transfer-engine/core';
import { describe, expect, it } from 'vitest';
import { cleanupAfterEach } from '../support/cleanup.ts';
import { EngineProcess, RemoteError, type HostSegment } from '../support/engine-process.ts';
import { until } from '../support/waiting.ts';

const MIB = 1024 * 1024;
const REGION_BYTES = 256 * MIB;
/** One GiB, moved out of and into the same memory. */
const PASSES = 4;
const TOTAL_BYTES = PASSES * REGION_BYTES;
/** Far enough to be in the middle, and far enough from the end. */
const MIDDLE_BYTES = 100 * MIB;
/** What a process may have grown by after it lost its peer: not a copy of what it moved. */
const GROWTH_BYTES = 128 * MIB;
const SETTLE_MS = 30_000;

const cleanup = cleanupAfterEach();
const directions = ['write', 'read'] as const;

/** Codes that name a peer which is gone: on a connection, and when connecting again. */
const PEER_GONE: unknown = expect.stringMatching(/^ERR_TE_(PEER_LOST|CONNECT_FAILED)$/);

describe('a process is killed in the middle of 1 GiB', () => {
  it.each(directions)('the target of a %s', async (opcode) => {
    const target = await EngineProcess.start(cleanup);
    await target.call('register', { length: REGION_BYTES, seed: 1 });
    const initiator = await EngineProcess.start(cleanup);
    const region = await initiator.call('register', { length: REGION_BYTES, seed: 2 });
    const baseline = await snapshot(initiator);

    const segment = await initiator.call('open', { name: target.name });
    const batch = await submitAll(initiator, segment, region.id, opcode);
    await reachMiddle(initiator, batch);
    const killedMs = Date.now();
    await target.kill();
    const status = await initiator.call('settled', { batch });
    console.info(`${opcode}, target killed: settled after ${status.atMs - killedMs} ms`);
    expect(status).toMatchObject({ state: TaskState.failed, error: { code: PEER_GONE } });
    expect(status.failed + status.completed).toBe(PASSES);
    expect(status.bytes).toBeLessThan(TOTAL_BYTES);
    await initiator.call('closeSegment', { segment: segment.id });
    await expectQuiet(initiator, baseline);

    await expectService(initiator, region.id);
    await expectQuiet(initiator, baseline);
  });

  it.each(directions)('the initiator of a %s', async (opcode) => {
    const target = await EngineProcess.start(cleanup);
    const served = await target.call('register', { length: REGION_BYTES, seed: 1 });
    const baseline = await snapshot(target);

    const initiator = await EngineProcess.start(cleanup);
    const region = await initiator.call('register', { length: REGION_BYTES, seed: 2 });
    const segment = await initiator.call('open', { name: target.name });
    const batch = await submitAll(initiator, segment, region.id, opcode);
    await reachMiddle(initiator, batch);
    const killedMs = Date.now();
    await initiator.kill();
    const noticed = async () => (await tcpCounters(target))['sessionsOpen'] === 0;
    await until(noticed, SETTLE_MS, 'the end of all sessions');
    console.info(`${opcode}, initiator killed: noticed after ${Date.now() - killedMs} ms`);
    await expectQuiet(target, baseline);

    const second = await EngineProcess.start(cleanup);
    const other = await second.call('register', { length: MIB, seed: 3 });
    const again = await second.call('open', { name: target.name });
    await roundTrip(second, other.id, again);
    await second.call('closeSegment', { segment: again.id });
    // Nothing of the dead peer holds the memory.
    await target.call('unregister', { region: served.id });
    await expectQuiet(target, baseline);
  });
});

describe('a peer is killed', () => {
  it('transfers of their own, many of them, all end', async () => {
    const target = await EngineProcess.start(cleanup);
    await target.call('register', { length: REGION_BYTES, seed: 1 });
    const initiator = await EngineProcess.start(cleanup);
    const region = await initiator.call('register', { length: REGION_BYTES, seed: 2 });
    const baseline = await snapshot(initiator);
    const segment = await initiator.call('open', { name: target.name });
    const batches = await Promise.all(
      Array.from({ length: 16 }, (_, index) =>
        submitAll(initiator, segment, region.id, index % 2 === 0 ? 'write' : 'read'),
      ),
    );
    const moved = async () => {
      const { bytesRead, bytesWritten } = await initiator.call('stats');
      return bytesRead + bytesWritten > MIDDLE_BYTES;
    };
    await until(moved, SETTLE_MS, 'the middle of the transfers');
    const killedMs = Date.now();
    await target.kill();
    const all = await Promise.all(batches.map((batch) => initiator.call('settled', { batch })));
    const last = Math.max(...all.map(({ atMs }) => atMs));
    console.info(`${batches.length} batches: the last one settled after ${last - killedMs} ms`);
    for (const status of all) {
      expect(status).toMatchObject({ state: TaskState.failed, error: { code: PEER_GONE } });
    }
    // One that is submitted to a peer that is gone is told so.
    const late = await submitAll(initiator, segment, region.id, 'write');
    expect(await initiator.call('settled', { batch: late })).toMatchObject({
      state: TaskState.failed,
      failed: PASSES,
      error: { code: PEER_GONE },
    });
    await initiator.call('closeSegment', { segment: segment.id });
    await expectQuiet(initiator, baseline);
    await expectService(initiator, region.id);
  });

  it('requests of the same batch to another peer are not touched', async () => {
    const mortal = await EngineProcess.start(cleanup);
    const survivor = await EngineProcess.start(cleanup);
    const initiator = await EngineProcess.start(cleanup);
    const region = await initiator.call('register', { length: REGION_BYTES, seed: 2 });
    const requests = [];
    const served = [];
    for (const target of [mortal, survivor]) {
      served.push(await target.call('register', { length: REGION_BYTES, seed: 1 }));
      const segment = await initiator.call('open', { name: target.name });
      requests.push({
        opcode: 'write' as const,
        segment: segment.id,
        region: region.id,
        remoteAddress: segment.buffers[0]?.address ?? 0n,
      });
    }
    const batch = await initiator.call('submitBatch', { requests });
    const middle = async () =>
      ((await tcpCounters(mortal))['targetBytesIn'] ?? 0) > MIB &&
      ((await tcpCounters(survivor))['targetBytesIn'] ?? 0) > MIB;
    await until(middle, SETTLE_MS, 'the middle of both');
    await mortal.kill();
    await initiator.call('settled', { batch });
    expect(await initiator.call('statuses', { batch })).toMatchObject([
      { state: TaskState.failed, error: { code: PEER_GONE } },
      { state: TaskState.completed, bytes: REGION_BYTES },
    ]);
    expect(await survivor.call('check', { region: served[1]?.id ?? 0, seed: 2 })).toBe(-1);
  });
});

describe('a process is stopped', () => {
  it.each(directions)(
    'the target of a %s: the deadline holds, nothing hangs later',
    async (opcode) => {
      const target = await EngineProcess.start(cleanup);
      await target.call('register', { length: REGION_BYTES, seed: 1 });
      const initiator = await EngineProcess.start(cleanup);
      const region = await initiator.call('register', { length: REGION_BYTES, seed: 2 });
      const baseline = await snapshot(initiator);
      const segment = await initiator.call('open', { name: target.name });
      const timeoutMs = 1_500;
      const batch = await submitAll(initiator, segment, region.id, opcode, { timeoutMs });
      await reachMiddle(initiator, batch);
      target.signal('SIGSTOP');
      const status = await initiator.call('settled', { batch });
      console.info(`${opcode}, target stopped: settled ${status.elapsedMs} ms after submission`);
      expect(status).toMatchObject({ state: TaskState.timeout, error: { code: 'ERR_TE_TIMEOUT' } });
      expect(status.bytes).toBeLessThan(TOTAL_BYTES);
      expect(await initiator.call('stats')).toMatchObject({ tasksActive: 0, slicesInFlight: 0 });

      target.signal('SIGCONT');
      await roundTrip(initiator, region.id, segment);
      await initiator.call('closeSegment', { segment: segment.id });
      await expectQuiet(initiator, baseline);
      const idle = async () => (await tcpCounters(target))['sessionsOpen'] === 0;
      await until(idle, SETTLE_MS, 'the end of all sessions');
    },
  );

  it('the initiator of a write: its target gives the memory back all the same', async () => {
    const target = await EngineProcess.start(cleanup);
    const served = await target.call('register', { length: REGION_BYTES, seed: 1 });
    const initiator = await EngineProcess.start(cleanup);
    const region = await initiator.call('register', { length: REGION_BYTES, seed: 2 });
    const segment = await initiator.call('open', { name: target.name });
    const batch = await submitAll(initiator, segment, region.id, 'write');
    await reachMiddle(initiator, batch);
    initiator.signal('SIGSTOP');
    await target.call('unregister', { region: served.id });
    await target.call('fill', { region: served.id, seed: 9 });
    initiator.signal('SIGCONT');
    const status = await initiator.call('settled', { batch });
    expect(status.state).toBe(TaskState.failed);
    expect(await target.call('check', { region: served.id, seed: 9 })).toBe(-1);
    expect(target.running).toBe(true);
  });
});

interface Snapshot {
  readonly resources: readonly string[];
  readonly rss: number;
}

async function snapshot(host: EngineProcess): Promise<Snapshot> {
  const { rss } = await host.call('memory');
  return { resources: await host.call('resources'), rss };
}

/** The same handles and timers as before, no work left, and no memory that stayed. */
async function expectQuiet(host: EngineProcess, before: Snapshot): Promise<void> {
  const wanted = before.resources.join();
  const quiet = async () => (await host.call('resources')).join() === wanted;
  await until(quiet, SETTLE_MS, `resources again ${wanted}`).catch(async (error: unknown) => {
    const what = `${String(error)}\n${host.stderr}`;
    expect(await host.call('resources'), what).toEqual(before.resources);
  });
  expect(await host.call('stats')).toMatchObject({ tasksActive: 0, slicesInFlight: 0 });
  const { connectionsOpened, connectionsClosed } = await tcpCounters(host);
  expect(connectionsClosed).toBe(connectionsOpened);
  const { rss } = await host.call('memory');
  expect(rss - before.rss).toBeLessThan(GROWTH_BYTES);
}

async function tcpCounters(host: EngineProcess): Promise<Readonly<Record<string, number>>> {
  return (await host.call('stats')).transports['tcp'] ?? {};
}

function submitAll(
  initiator: EngineProcess,
  segment: HostSegment,
  region: number,
  opcode: 'read' | 'write',
  options = {},
): Promise<number> {
  const remoteAddress = segment.buffers[0]?.address ?? 0n;
  const one = { segment: segment.id, region, remoteAddress, length: REGION_BYTES, opcode };
  return initiator.call('submitBatch', {
    requests: Array.from({ length: PASSES }, () => one),
    options: { overlap: 'allow', ...options },
  });
}

async function reachMiddle(initiator: EngineProcess, batch: number): Promise<void> {
  const middle = async () => (await initiator.call('overall', { batch })).bytes > MIDDLE_BYTES;
  await until(middle, SETTLE_MS, 'the middle of the transfer');
}

/** A peer that was not there before is served as if nothing had been. */
async function expectService(initiator: EngineProcess, region: number): Promise<void> {
  const fresh = await EngineProcess.start(cleanup);
  await fresh.call('register', { length: MIB, seed: 5 });
  const segment = await initiator.call('open', { name: fresh.name });
  await roundTrip(initiator, region, segment);
  await initiator.call('closeSegment', { segment: segment.id });
}

async function roundTrip(
  initiator: EngineProcess,
  region: number,
  segment: HostSegment,
): Promise<void> {
  const length = MIB / 2;
  const remoteAddress = segment.buffers[0]?.address ?? 0n;
  const request = { segment: segment.id, region, remoteAddress, length };
  await initiator.call('fill', { region, seed: 77, length });
  const write = await initiator.call('transfer', { opcode: 'write', request });
  expect(write).toMatchObject({ bytes: length, durability: 'applied' });
  await initiator.call('fill', { region, seed: 78, length });
  await initiator.call('transfer', { opcode: 'read', request });
  expect(await initiator.call('check', { region, seed: 77, length })).toBe(-1);
}

describe('the tools of these tests', () => {
  it('an error of another process keeps its code', async () => {
    const host = await EngineProcess.start(cleanup);
    const opening = host.call('open', { name: '' });
    await expect(opening).rejects.toBeInstanceOf(RemoteError);
    await expect(opening).rejects.toMatchObject({ code: 'ERR_TE_INVALID_ARGUMENT' });
  });
});
