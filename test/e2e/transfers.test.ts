import { TaskState, type OpcodeName } from '@transfer-engine/core';
import { describe, expect, it } from 'vitest';
import { cleanupAfterEach } from '../support/cleanup.ts';
import {
  EngineProcess,
  type HostOptions,
  type HostRegion,
  type HostRequest,
  type HostSegment,
} from '../support/engine-process.ts';
import { patternBytes } from '../support/patterns.ts';
import { until } from '../support/waiting.ts';

const MIB = 1024 * 1024;
const PATIENCE_MS = 30_000;

const cleanup = cleanupAfterEach();

interface Pair {
  readonly target: EngineProcess;
  readonly initiator: EngineProcess;
  readonly served: HostRegion;
  readonly region: HostRegion;
  readonly segment: HostSegment;
}

/** Two processes; the target has one region of `bytes`, filled with seed 1, and so has the other. */
async function pair(bytes: number, options: HostOptions = {}): Promise<Pair> {
  const target = await EngineProcess.start(cleanup, options);
  const served = await target.call('register', { length: bytes, seed: 1 });
  const initiator = await EngineProcess.start(cleanup);
  const region = await initiator.call('register', { length: bytes, seed: 2 });
  const segment = await initiator.call('open', { name: target.name });
  return { target, initiator, served, region, segment };
}

const requestOf = ({ segment, region, served }: Pair): HostRequest => ({
  segment: segment.id,
  region: region.id,
  remoteAddress: served.address,
});

describe('sizes', () => {
  it('from nothing to 64 MiB, aligned to nothing, there and back', async () => {
    const sizes = [
      0,
      1,
      2,
      7,
      8,
      9,
      23,
      24,
      25,
      1023,
      1024,
      1025,
      4095,
      4096,
      65_535,
      65_537,
      1_000_003,
      MIB - 1,
      MIB,
      MIB + 1,
      4 * MIB + 13,
      64 * MIB,
    ];
    const longest = 64 * MIB;
    const both = await pair(longest + 64);
    const { target, initiator, served, region } = both;
    for (const [index, length] of sizes.entries()) {
      const localOffset = index % 7;
      const remoteOffset = index % 5;
      const seed = 10 + index;
      const remoteAddress = served.address + BigInt(remoteOffset);
      const request = { ...requestOf(both), localOffset, remoteAddress, length };
      await initiator.call('fill', { region: region.id, seed, offset: localOffset, length });
      const written = await initiator.call('transfer', { opcode: 'write', request });
      expect(written).toMatchObject({ bytes: length, durability: 'applied', attempts: 1 });
      const there = { region: served.id, offset: remoteOffset, length, seed, at: localOffset };
      expect(await target.call('check', there), `${length} bytes written`).toBe(-1);
      await initiator.call('fill', { region: region.id, seed: 0, offset: localOffset, length });
      const read = await initiator.call('transfer', { opcode: 'read', request });
      expect(read).toMatchObject({ bytes: length });
      const back = { region: region.id, offset: localOffset, length, seed };
      expect(await initiator.call('check', back), `${length} bytes read`).toBe(-1);
    }
    const total = sizes.reduce((sum, size) => sum + size, 0);
    expect(await initiator.call('stats')).toMatchObject({
      bytesWritten: total,
      bytesRead: total,
      tasksCompleted: 2 * sizes.length,
      tasksFailed: 0,
    });
  });

  it('the bytes beside a range stay as they are', async () => {
    const both = await pair(10_000);
    const request = { ...requestOf(both), remoteAddress: both.served.address + 100n, length: 50 };
    await both.initiator.call('transfer', { opcode: 'write', request });
    const { target, served } = both;
    expect(await target.call('check', { region: served.id, seed: 1, length: 100 })).toBe(-1);
    expect(await target.call('check', { region: served.id, seed: 1, offset: 150 })).toBe(-1);
  });
});

describe('framing v1', () => {
  it('moves the same bytes; a write is sent, and out when the engine is closed', async () => {
    const length = 8 * MIB + 3;
    const target = await EngineProcess.start(cleanup);
    const served = await target.call('register', { length, seed: 1 });
    const initiator = await EngineProcess.start(cleanup, { environment: { MC_TCP_PROTO: '1' } });
    const region = await initiator.call('register', { length, seed: 2 });
    const segment = await initiator.call('open', { name: target.name });
    const request = { segment: segment.id, region: region.id, remoteAddress: served.address };
    const read = await initiator.call('transfer', { opcode: 'read', request });
    expect(read).toMatchObject({ bytes: length, durability: 'applied' });
    expect(await initiator.call('check', { region: region.id, seed: 1 })).toBe(-1);
    await initiator.call('fill', { region: region.id, seed: 3 });
    const written = await initiator.call('transfer', { opcode: 'write', request });
    expect(written).toMatchObject({ bytes: length, durability: 'sent' });
    await initiator.call('close');
    await initiator.kill();
    const arrived = async () =>
      (await target.call('stats')).transports['tcp']?.['writesServed'] === 1;
    await until(arrived, PATIENCE_MS, 'the whole write');
    expect(await target.call('check', { region: served.id, seed: 3 })).toBe(-1);
  });
});

describe('batches', () => {
  it('1000 requests, some refused in the middle: their neighbours arrive', async () => {
    const count = 1_000;
    const block = 4_096;
    const both = await pair(count * block);
    const { target, initiator, served, region } = both;
    const refused = new Set([0, 1, 333, 500, 501, 502, 640, 999]);
    const requests = Array.from({ length: count }, (_, index) => ({
      ...requestOf(both),
      opcode: 'write' as const,
      localOffset: index * block,
      length: block,
      remoteAddress: refused.has(index)
        ? served.address + BigInt(count * block - 100 + (index % 2) * 10 * MIB)
        : served.address + BigInt(index * block),
    }));
    // Several of the refused ranges are the same, which is allowed when it is asked for.
    const twice = initiator.call('submitBatch', { requests });
    await expect(twice).rejects.toMatchObject({ code: 'ERR_TE_ADDRESS_OVERLAPPED' });
    expect(await initiator.call('stats')).toMatchObject({ tasksActive: 0, tasksFailed: 0 });
    const options = { overlap: 'allow' as const };
    const batch = await initiator.call('submitBatch', { requests, options });
    const status = await initiator.call('settled', { batch });
    expect(status).toMatchObject({
      state: TaskState.failed,
      tasks: count,
      completed: count - refused.size,
      failed: refused.size,
      bytes: (count - refused.size) * block,
      error: { code: 'ERR_TE_ADDRESS_REJECTED' },
    });
    const statuses = await initiator.call('statuses', { batch });
    for (const [index, { state, bytes, error }] of statuses.entries()) {
      const got = { index, state, bytes, code: error?.code };
      expect(got).toEqual(
        refused.has(index)
          ? { index, state: TaskState.failed, bytes: 0, code: 'ERR_TE_ADDRESS_REJECTED' }
          : { index, state: TaskState.completed, bytes: block, code: undefined },
      );
      const seed = refused.has(index) ? 1 : 2;
      const range = { region: served.id, offset: index * block, length: block, seed };
      expect(await target.call('check', range), `block ${index}`).toBe(-1);
    }
    // The connections that the refusals cost are made again.
    const request = { ...requestOf(both), length: block };
    expect(await initiator.call('transfer', { opcode: 'write', request })).toMatchObject({
      bytes: block,
    });
    expect(await initiator.call('check', { region: region.id, seed: 2 })).toBe(-1);
  });

  it('reads and writes of one batch, a notification behind them', async () => {
    const count = 200;
    const block = 10_000;
    const both = await pair(2 * count * block);
    const { target, initiator, served, region } = both;
    // Even blocks are written to the peer's first half, odd ones read from its second half.
    const requests = Array.from({ length: count }, (_, index) => {
      const opcode: OpcodeName = index % 2 === 0 ? 'write' : 'read';
      const at = (opcode === 'write' ? index : count + index) * block;
      const remoteAddress = served.address + BigInt(at);
      return { ...requestOf(both), opcode, localOffset: at, length: block, remoteAddress };
    });
    const notify = { name: 'done', message: 'ünï' };
    const batch = await initiator.call('submitBatch', { requests, options: { notify } });
    const status = await initiator.call('settled', { batch });
    expect(status).toMatchObject({ state: TaskState.completed, bytes: count * block });
    expect(status.notifyError).toBeUndefined();
    expect(await target.call('takeNotifications')).toEqual([
      { ...notify, from: initiator.name, outcome: 'completed' },
    ]);
    for (let index = 0; index < count; index += 1) {
      const written = { region: served.id, offset: index * block, length: block };
      const seed = index % 2 === 0 ? 2 : 1;
      expect(await target.call('check', { ...written, seed })).toBe(-1);
      const read = { region: region.id, offset: (count + index) * block, length: block };
      const readSeed = index % 2 === 0 ? 2 : 1;
      expect(await initiator.call('check', { ...read, seed: readSeed })).toBe(-1);
    }
  });

  it('a notification is for requests that completed, unless it is asked for otherwise', async () => {
    const both = await pair(10_000);
    const { target, initiator, served } = both;
    const good = { ...requestOf(both), opcode: 'write' as const, length: 100 };
    const bad = { ...good, remoteAddress: served.address + 9_950n };
    const options = { notify: { name: 'n', message: 'm' } };
    const first = await initiator.call('submitBatch', { requests: [good, bad], options });
    expect(await initiator.call('settled', { batch: first })).toMatchObject({
      completed: 1,
      failed: 1,
    });
    expect(await target.call('takeNotifications')).toEqual([]);
    const moving = initiator.call('transfer', { opcode: 'write', request: bad, options });
    await expect(moving).rejects.toMatchObject({ code: 'ERR_TE_ADDRESS_REJECTED' });
    expect(await target.call('takeNotifications')).toEqual([]);
    const second = await initiator.call('submitBatch', { requests: [good], options });
    expect(await initiator.call('settled', { batch: second })).toMatchObject({ completed: 1 });
    expect(await target.call('takeNotifications')).toMatchObject([options.notify]);
    // Who wants to know how it ended in any case, says so.
    const told = { notify: { name: 'n', message: 'whatever came of it', on: 'settled' as const } };
    const third = await initiator.call('submitBatch', { requests: [good, bad], options: told });
    expect(await initiator.call('settled', { batch: third })).toMatchObject({ failed: 1 });
    expect(await target.call('takeNotifications')).toMatchObject([
      { name: 'n', message: 'whatever came of it', outcome: 'failed' },
    ]);
  });
});

describe('columns', () => {
  it('100,000 small ranges, all verified', async () => {
    const count = 100_000;
    const block = 64;
    const both = await pair(count * block);
    const { target, initiator, served, region, segment } = both;
    const localOffset = new Float64Array(count);
    const remoteAddress = new BigUint64Array(count);
    const length = new Float64Array(count);
    // Every range goes where another one comes from: a wrong place is seen.
    const step = 30_011;
    for (let row = 0; row < count; row += 1) {
      localOffset[row] = row * block;
      remoteAddress[row] = served.address + BigInt(((row * step) % count) * block);
      length[row] = row % (block + 1);
    }
    const columns = { opcode: 'write' as const, localOffset, remoteAddress, length };
    const call = { segment: segment.id, region: region.id, columns };
    const written = await initiator.call('columns', call);
    const total = length.reduce((sum, bytes) => sum + bytes, 0);
    expect(written).toMatchObject({ bytes: total, completed: count, failed: 0, errors: [] });
    const expected = Buffer.from(await initiator.call('bytes', { region: region.id }));
    const got = Buffer.from(await target.call('bytes', { region: served.id }));
    const untouched = patternBytes(count * block, 1);
    const wrong: number[] = [];
    for (let row = 0; row < count; row += 1) {
      const from = row * block;
      const to = ((row * step) % count) * block;
      const bytes = length[row] as number;
      const end = to + block;
      const arrived = got.compare(expected, from, from + bytes, to, to + bytes) === 0;
      const kept = got.compare(untouched, to + bytes, end, to + bytes, end) === 0;
      if (!arrived || !kept) wrong.push(row);
    }
    expect(wrong).toEqual([]);

    await initiator.call('fill', { region: region.id, seed: 9 });
    const read = await initiator.call('columns', {
      ...call,
      columns: { ...columns, opcode: new Uint8Array(count) },
    });
    expect(read).toMatchObject({ bytes: total, completed: count, failed: 0 });
    const back = Buffer.from(await initiator.call('bytes', { region: region.id }));
    const differing = Array.from({ length: count }, (_, row) => row).filter((row) => {
      const [from, to] = [row * block, row * block + (length[row] as number)];
      return back.compare(expected, from, to, from, to) !== 0;
    });
    expect(differing).toEqual([]);
  });

  it('a few bad ranges among many', async () => {
    const count = 20_000;
    const block = 32;
    const both = await pair(count * block);
    const { initiator, served, region, segment } = both;
    const refused = new Set([0, 7_777, 7_778, 19_999]);
    const localOffset = Float64Array.from({ length: count }, (_, row) => row * block);
    const remoteAddress = Float64Array.from({ length: count }, (_, row) =>
      refused.has(row) ? 4096 : Number(served.address) + row * block,
    );
    const length = new Float64Array(count).fill(block);
    const columns = { opcode: 'read' as const, localOffset, remoteAddress, length };
    const result = await initiator.call('columns', {
      segment: segment.id,
      region: region.id,
      columns,
    });
    expect(result).toMatchObject({ completed: count - refused.size, failed: refused.size });
    expect(result.errors.map(([row, { code }]) => [row, code]).sort()).toEqual(
      [...refused].map((row) => [row, 'ERR_TE_ADDRESS_REJECTED']).sort(),
    );
    for (const [row, state] of result.states.entries()) {
      const wanted = refused.has(row) ? TaskState.failed : TaskState.completed;
      if (state !== wanted) throw new Error(`range ${row} is in state ${state}`);
      const seed = refused.has(row) ? 2 : 1;
      if (row % 1_000 !== 0 && !refused.has(row)) continue;
      const range = { region: region.id, offset: row * block, length: block, seed };
      expect(await initiator.call('check', range)).toBe(-1);
    }
  });
});

describe('permissions', () => {
  it('read-only memory may be read, local memory is not even named', async () => {
    const target = await EngineProcess.start(cleanup);
    const length = 10_000;
    const readOnly = await target.call('register', {
      length,
      seed: 1,
      permission: 'global-read-only',
    });
    const local = await target.call('register', {
      length,
      seed: 3,
      permission: 'local-read-write',
    });
    const initiator = await EngineProcess.start(cleanup);
    const region = await initiator.call('register', { length, seed: 2 });
    const segment = await initiator.call('open', { name: target.name });
    expect(segment.buffers.map(({ address }) => address)).toEqual([readOnly.address]);
    const to = (remoteAddress: bigint) => ({
      request: { segment: segment.id, region: region.id, remoteAddress, length },
    });
    const rejected = { code: 'ERR_TE_ADDRESS_REJECTED' };
    const write = initiator.call('transfer', { opcode: 'write', ...to(readOnly.address) });
    await expect(write).rejects.toMatchObject(rejected);
    for (const opcode of ['read', 'write'] as const) {
      const hidden = initiator.call('transfer', { opcode, ...to(local.address) });
      await expect(hidden).rejects.toMatchObject(rejected);
    }
    expect(await target.call('check', { region: readOnly.id, seed: 1 })).toBe(-1);
    expect(await target.call('check', { region: local.id, seed: 3 })).toBe(-1);
    await initiator.call('transfer', { opcode: 'read', ...to(readOnly.address) });
    expect(await initiator.call('check', { region: region.id, seed: 1 })).toBe(-1);
  });
});

describe('endings', () => {
  it('memory that is withdrawn while a peer writes to it', async () => {
    const both = await pair(64 * MIB);
    const { target, initiator, served } = both;
    const stream = await initiator.call('startStream', {
      ...requestOf(both),
      length: 32 * MIB,
    });
    await until(
      async () => ((await target.call('stats')).transports['tcp']?.['targetBytesIn'] ?? 0) > 0,
      PATIENCE_MS,
      'a peer that writes',
    );
    await target.call('unregister', { region: served.id });
    await target.call('fill', { region: served.id, seed: 99 });
    const failed = async () => ((await initiator.call('stats')).tasksFailed > 2 ? true : undefined);
    await until(failed, PATIENCE_MS, 'writes that are refused');
    const { failures } = await initiator.call('stopStream', { stream });
    expect(new Set(failures.slice(1).map(({ code }) => code))).toEqual(
      new Set(['ERR_TE_ADDRESS_REJECTED']),
    );
    expect(await target.call('check', { region: served.id, seed: 99 })).toBe(-1);
  });

  it('an abort rejects with its reason, and the memory is quiet', async () => {
    const both = await pair(128 * MIB);
    const { target, initiator, region } = both;
    for (const opcode of ['write', 'read'] as const) {
      const moving = initiator.call('transfer', {
        opcode,
        request: requestOf(both),
        options: { abort: opcode },
      });
      moving.catch(() => undefined);
      const counter = opcode === 'write' ? 'targetBytesIn' : 'targetBytesOut';
      const under = async () =>
        ((await target.call('stats')).transports['tcp']?.[counter] ?? 0) > 8 * MIB;
      await until(under, PATIENCE_MS, 'the middle');
      await initiator.call('abort', { abort: opcode });
      await expect(moving).rejects.toThrow('the test says so');
      await initiator.call('fill', { region: region.id, seed: 50 });
      expect(await initiator.call('stats')).toMatchObject({ tasksActive: 0, slicesInFlight: 0 });
      const small = { ...requestOf(both), length: 1_000 };
      await initiator.call('transfer', { opcode: 'write', request: small });
      expect(await initiator.call('check', { region: region.id, seed: 50 })).toBe(-1);
    }
  });

  it('a deadline that is too short', async () => {
    const both = await pair(256 * MIB);
    const { initiator, region } = both;
    const request = requestOf(both);
    const options = { timeoutMs: 20 };
    for (const opcode of ['write', 'read'] as const) {
      const moving = initiator.call('transfer', { opcode, request, options });
      await expect(moving).rejects.toMatchObject({ code: 'ERR_TE_TIMEOUT', name: 'TimeoutError' });
      await initiator.call('fill', { region: region.id, seed: 60 });
    }
    const small = { ...request, length: 1_000 };
    await initiator.call('transfer', { opcode: 'write', request: small });
    expect(await initiator.call('check', { region: region.id, seed: 60 })).toBe(-1);
    expect(await initiator.call('stats')).toMatchObject({ tasksActive: 0, slicesInFlight: 0 });
  });

  it('closing an engine ends its transfers, and those of its peers', async () => {
    const both = await pair(256 * MIB);
    const { target, initiator } = both;
    const submit = () =>
      initiator.call('submitBatch', { requests: [{ ...requestOf(both), opcode: 'write' }] });
    const first = await submit();
    const moving = async () => (await initiator.call('overall', { batch: first })).bytes > 0;
    await until(moving, PATIENCE_MS, 'the middle');
    await target.call('close');
    const lost = await initiator.call('settled', { batch: first });
    expect(lost).toMatchObject({ failed: 1 });
    expect(lost.error?.code).toMatch(/^ERR_TE_(PEER_LOST|CONNECT_FAILED)$/);

    const next = await EngineProcess.start(cleanup);
    const served = await next.call('register', { length: 256 * MIB });
    const segment = await initiator.call('open', { name: next.name });
    const request = { ...requestOf({ ...both, segment, served }), opcode: 'write' as const };
    const second = await initiator.call('submitBatch', { requests: [request] });
    const again = async () => (await initiator.call('overall', { batch: second })).bytes > 0;
    await until(again, PATIENCE_MS, 'the middle');
    await initiator.call('close');
    expect(await initiator.call('settled', { batch: second })).toMatchObject({
      state: TaskState.canceled,
      error: { code: 'ERR_TE_CLOSED' },
    });
    for (const host of [target, initiator]) {
      const idle = async () => (await host.call('resources')).every((name) => name === 'PipeWrap');
      await until(idle, PATIENCE_MS, 'a process that holds nothing');
    }
    const late = initiator.call('transfer', { opcode: 'write', request });
    await expect(late).rejects.toMatchObject({ code: 'ERR_TE_CLOSED' });
  });
});

describe('wrong arguments', () => {
  it('are named, and have no effect', async () => {
    const both = await pair(10_000);
    const { target, initiator, served, segment } = both;
    const good = requestOf(both);
    const before = await initiator.call('stats');
    const wrong: [string, Partial<HostRequest> & { options?: { timeoutMs?: number } }][] = [
      ['localOffset', { localOffset: -1 }],
      ['localOffset', { localOffset: 10_001 }],
      ['length', { length: 10_001 }],
      ['length', { localOffset: 1, length: 10_000 }],
      ['length', { length: 1.5 }],
      ['length', { length: Number.NaN }],
      ['remoteAddress', { remoteAddress: -1n }],
      ['remoteAddress', { remoteAddress: 2n ** 64n - 1n, length: 2 }],
      ['segment', { segment: 12_345 }],
      ['local', { region: 12_345 }],
      ['timeoutMs', { options: { timeoutMs: 0 } }],
      ['timeoutMs', { options: { timeoutMs: Number.NaN } }],
    ];
    for (const [name, { options, ...change }] of wrong) {
      const request = { ...good, ...change };
      const moving = initiator.call('transfer', {
        opcode: 'write',
        request,
        ...(options === undefined ? {} : { options }),
      });
      await expect(moving, name).rejects.toMatchObject({ code: 'ERR_TE_INVALID_ARGUMENT' });
      await expect(moving).rejects.toThrow(name);
      // One bad request among good ones keeps all of them back.
      if (options !== undefined) continue;
      const requests = [good, request, good].map((one) => ({ ...one, opcode: 'write' as const }));
      const batch = initiator.call('submitBatch', { requests });
      await expect(batch).rejects.toMatchObject({ code: 'ERR_TE_INVALID_ARGUMENT' });
      await expect(batch).rejects.toThrow('requests[1]');
    }
    const columns = {
      opcode: 'write' as const,
      localOffset: Float64Array.of(0, 9_999),
      remoteAddress: BigUint64Array.of(served.address, served.address),
      length: Float64Array.of(10, 2),
    };
    const rows = initiator.call('columns', {
      segment: segment.id,
      region: both.region.id,
      columns,
    });
    await expect(rows).rejects.toThrow('columns.localOffset[1]');
    expect(await initiator.call('stats')).toEqual(before);
    expect(await target.call('check', { region: served.id, seed: 1 })).toBe(-1);
  });
});
