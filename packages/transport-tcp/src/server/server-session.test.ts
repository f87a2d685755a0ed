import { FakeClock } from '@transfer-engine/core/testing';
import type { Logger } from '@transfer-engine/core/transport';
import { describeSegment } from '@transfer-engine/core/testing';
import { afterEach, describe, expect, it } from 'vitest';
import type { TcpOptions } from '../index.ts';
import {
  End,
  eventually,
  header,
  pattern,
  RawClient,
  READ_V1,
  READ_V2,
  STATUS_OK,
  STATUS_REJECTED,
  WRITE_V1,
  WRITE_V2,
} from '../testing/loopback.ts';

const open: End[] = [];
const clients: RawClient[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.socket.destroy();
  await Promise.all(open.splice(0).map(({ transport }) => transport.close()));
});

async function start(options: TcpOptions = {}, clock?: FakeClock, logger?: Logger): Promise<End> {
  const end = new End(options, { ...(clock && { clock }), ...(logger && { logger }) });
  open.push(end);
  await end.transport.start();
  return end;
}

async function dial(target: End): Promise<RawClient> {
  const client = await RawClient.connect(describeSegment(target).tcpDataPort);
  clients.push(client);
  return client;
}

const variants: [string, TcpOptions][] = [
  ['reading directly', {}],
  ['copying', { directRead: false }],
];

describe.each(variants)('session of a target, %s', (_name, options) => {
  it('serves both framings, mixed, on one connection', async () => {
    const target = await start(options);
    const memory = pattern(1000, 1);
    const { address } = target.register(memory);
    const client = await dial(target);
    client.write(header(READ_V2, 10, address));
    expect(await client.read(18)).toEqual(Buffer.concat([STATUS_OK, memory.subarray(0, 10)]));
    client.write(header(READ_V1, 5, address + 3));
    expect(await client.read(5)).toEqual(memory.subarray(3, 8));
    client.write(Buffer.concat([header(WRITE_V2, 4, address), Buffer.from('abcd')]));
    expect(await client.read(8)).toEqual(STATUS_OK);
    expect(memory.subarray(0, 4).toString()).toBe('abcd');
    client.write(Buffer.concat([header(WRITE_V1, 4, address), Buffer.from('efgh')]));
    client.write(header(READ_V1, 4, address));
    expect((await client.read(4)).toString()).toBe('efgh');
    expect(target.count('readsServed')).toBe(3);
    expect(target.count('writesServed')).toBe(2);
  });

  it('ignores the padding, and takes bytes in any pieces', async () => {
    const target = await start(options);
    const memory = Buffer.alloc(30);
    const { address } = target.register(memory);
    const client = await dial(target);
    const padded = header(WRITE_V2, 9, address);
    padded.fill(0xcd, 17);
    for (const byte of Buffer.concat([padded, Buffer.from('123456789')])) {
      client.write(Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await client.read(8)).toEqual(STATUS_OK);
    expect(memory.toString('latin1', 0, 9)).toBe('123456789');
  });

  it('answers many requests that come at once, in their order', async () => {
    const target = await start(options);
    const memory = pattern(2_000_000, 2);
    const { address } = target.register(memory);
    const client = await dial(target);
    const lengths = [1, 300_000, 5, 1_000_000, 24, 262_144, 7];
    client.write(Buffer.concat(lengths.map((length) => header(READ_V2, length, address))));
    for (const length of lengths) {
      expect(await client.read(8)).toEqual(STATUS_OK);
      expect((await client.read(length)).equals(memory.subarray(0, length))).toBe(true);
    }
  });

  it('acknowledges a large write only when all of it is in place', async () => {
    const target = await start(options);
    const memory = Buffer.alloc(700_000);
    const { address } = target.register(memory);
    const source = pattern(600_000, 4);
    const client = await dial(target);
    client.write(Buffer.concat([header(WRITE_V2, 600_000, address), source.subarray(0, 599_999)]));
    await eventually(() => target.count('targetBytesIn') === 24 + 599_999);
    expect(client.socket.bytesRead).toBe(0);
    client.write(source.subarray(599_999));
    expect(await client.read(8)).toEqual(STATUS_OK);
    expect(memory.subarray(0, 600_000).equals(source)).toBe(true);
    expect(memory.subarray(600_000).every((byte) => byte === 0)).toBe(true);
  });

  it('stops reading requests while too many answers wait, and serves them all', async () => {
    const target = await start(options);
    const memory = pattern(100_000, 5);
    const region = target.register(memory);
    const { address } = region;
    const client = await dial(target);
    client.socket.pause();
    const count = 2000;
    client.write(
      Buffer.concat(Array.from({ length: count }, () => header(READ_V2, 100_000, address))),
    );
    await eventually(() => target.count('targetBytesIn') === count * 24);
    // Each answer that waits pins the region.
    expect(region.pins).toBeLessThan(60);
    client.socket.resume();
    for (let index = 0; index < count; index += 1) {
      const answer = await client.read(100_008);
      expect(answer.subarray(0, 8).equals(STATUS_OK)).toBe(true);
      expect(answer.subarray(8).equals(memory)).toBe(true);
    }
    expect(target.count('readsServed')).toBe(count);
  });

  it('finishes its answers for a peer that has ended its own stream', async () => {
    const target = await start(options);
    const memory = pattern(500_000, 6);
    const { address } = target.register(memory);
    const client = await dial(target);
    client.socket.end(header(READ_V1, 500_000, address));
    const answer = await client.rest();
    expect(answer.equals(memory)).toBe(true);
    await eventually(() => target.count('sessionsOpen') === 0);
    expect(target.count('sessionsTruncated')).toBe(0);
  });

  it.each([
    ['length 0', READ_V2, 0n, 0n],
    ['length 0 for a write', WRITE_V2, 0n, 0n],
    ['one byte too many', READ_V2, 101n, 0n],
    ['one byte before', READ_V2, 1n, -1n],
    ['a range that wraps', READ_V2, 2n ** 64n - 1n, 5n],
    ['an address far away', READ_V2, 1n, 2n ** 62n],
    ['opcode 2', 0x82, 1n, 0n],
    ['opcode 5', 0x85, 1n, 0n],
  ])('refuses %s with a status, and then ends', async (_what, opcode, length, offset) => {
    const target = await start(options);
    const region = target.register(pattern(100, 7));
    const client = await dial(target);
    client.write(header(READ_V2, 3, region.address));
    client.write(header(opcode, length, BigInt.asUintN(64, BigInt(region.address) + offset)));
    expect(await client.rest()).toEqual(
      Buffer.concat([STATUS_OK, pattern(100, 7).subarray(0, 3), STATUS_REJECTED]),
    );
    expect(target.count('requestsRefused')).toBe(1);
    client.socket.end();
    await eventually(() => target.count('sessionsOpen') === 0);
    expect(region.pins).toBe(0);
  });

  it.each([
    ['a read', READ_V1],
    ['a write', WRITE_V1],
    ['an unknown opcode', 0x05],
  ])('refuses %s of framing v1 without a byte', async (_what, opcode) => {
    const target = await start(options);
    const region = target.register(Buffer.alloc(100));
    const client = await dial(target);
    client.write(Buffer.concat([header(opcode, 50, region.end), Buffer.alloc(50, 1)]));
    expect(await client.rest()).toEqual(Buffer.alloc(0));
    await eventually(() => target.count('sessionsOpen') === 0);
  });

  it('gets a refusal through to a peer that is sending a large body', async () => {
    const target = await start(options);
    const { address } = target.register(Buffer.alloc(100));
    const client = await dial(target);
    const body = Buffer.alloc(40_000_000);
    client.write(Buffer.concat([header(WRITE_V2, body.length, address), body]));
    expect(await client.rest()).toEqual(STATUS_REJECTED);
    client.socket.end();
    await eventually(() => target.count('sessionsOpen') === 0);
    expect(client.error).toBeUndefined();
  });

  it('leaves memory of other permissions alone', async () => {
    const target = await start(options);
    const secret = target.register(Buffer.alloc(100, 1), 'local-read-write');
    const shown = target.register(Buffer.alloc(100, 2), 'global-read-only');
    for (const [opcode, address] of [
      [READ_V2, secret.address],
      [WRITE_V2, secret.address],
      [WRITE_V2, shown.address],
    ] as const) {
      const client = await dial(target);
      client.write(Buffer.concat([header(opcode, 8, address), Buffer.alloc(8, 9)]));
      expect(await client.rest()).toEqual(STATUS_REJECTED);
    }
    const client = await dial(target);
    client.write(header(READ_V2, 100, shown.address));
    expect(await client.read(108)).toEqual(Buffer.concat([STATUS_OK, Buffer.alloc(100, 2)]));
  });

  it('breaks off what uses a region that is taken away, and nothing else', async () => {
    const target = await start(options);
    const leaving = target.register(Buffer.alloc(1_000_000));
    const staying = target.register(pattern(100, 8));
    const writer = await dial(target);
    writer.write(
      Buffer.concat([header(WRITE_V2, 500_000, leaving.address), Buffer.alloc(400_000)]),
    );
    const reader = await dial(target);
    reader.socket.pause();
    for (let part = 0; part < 20; part += 1) {
      reader.write(header(READ_V2, 1_000_000, leaving.address));
    }
    const other = await dial(target);
    await eventually(() => leaving.pins >= 2);
    target.host.registry.retire(leaving);
    await target.transport.detach?.([leaving]);
    expect(leaving.pins).toBe(0);
    await writer.until(() => writer.closed || writer.ended);
    other.write(header(READ_V2, 100, staying.address));
    expect(await other.read(108)).toEqual(Buffer.concat([STATUS_OK, pattern(100, 8)]));
    other.write(header(READ_V2, 1, leaving.address));
    expect(await other.rest()).toEqual(STATUS_REJECTED);
  });

  it('refuses a region whose memory was transferred, also in the middle of a request', async () => {
    const target = await start(options);
    const memory = new ArrayBuffer(1000);
    const { address } = target.register(memory);
    const writer = await dial(target);
    writer.write(Buffer.concat([header(WRITE_V2, 1000, address), Buffer.alloc(500)]));
    await eventually(() => target.count('targetBytesIn') === 524);
    structuredClone(memory, { transfer: [memory] });
    writer.write(Buffer.alloc(500));
    expect(await writer.rest()).toEqual(Buffer.alloc(0));
    const reader = await dial(target);
    reader.write(header(READ_V2, 10, address));
    expect(await reader.rest()).toEqual(STATUS_REJECTED);
  });
});

describe('bounds of a target', () => {
  it('closes a header that does not come to its end, and lets an idle connection be', async () => {
    const clock = new FakeClock();
    const target = await start({ headerTimeoutMs: 10_000 }, clock);
    const { address } = target.register(Buffer.alloc(10));
    const idle = await dial(target);
    const slow = await dial(target);
    await eventually(() => target.count('sessionsOpen') === 2);
    slow.write(header(READ_V2, 1, address).subarray(0, 23));
    await eventually(() => target.count('targetBytesIn') === 23);
    clock.advance(9999);
    expect(target.count('sessionsExpired')).toBe(0);
    clock.advance(2);
    await slow.until(() => slow.ended || slow.closed);
    expect(target.count('sessionsExpired')).toBe(1);
    clock.advance(10 * 24 * 3600 * 1000);
    idle.write(header(READ_V2, 1, address));
    expect((await idle.read(9)).length).toBe(9);
    expect(clock.pendingTimers).toBeLessThanOrEqual(1);
  });

  it('counts the time of a header from its first byte', async () => {
    const clock = new FakeClock();
    const target = await start({ headerTimeoutMs: 1000 }, clock);
    const client = await dial(target);
    for (let byte = 1; byte <= 3; byte += 1) {
      client.write(Buffer.of(1));
      await eventually(() => target.count('targetBytesIn') === byte);
      clock.advance(400);
    }
    await client.until(() => client.ended || client.closed);
    expect(target.count('sessionsExpired')).toBe(1);
  });

  it('closes a payload that stands still, in either direction', async () => {
    const clock = new FakeClock();
    const target = await start({ payloadTimeoutMs: 60_000 }, clock);
    const region = target.register(Buffer.alloc(1_000_000));
    const writer = await dial(target);
    writer.write(Buffer.concat([header(WRITE_V2, 100, region.address), Buffer.alloc(99)]));
    const reader = await dial(target);
    reader.socket.pause();
    reader.write(
      Buffer.concat(Array.from({ length: 50 }, () => header(READ_V2, 1_000_000, region.address))),
    );
    await eventually(() => target.count('targetBytesIn') >= 123 + 24);
    await eventually(() => region.pins >= 2);
    // What the kernel still takes of the answers counts as movement; wait until it takes no more.
    let sent = -1;
    while (sent !== target.count('targetBytesOut')) {
      sent = target.count('targetBytesOut');
      for (let turn = 0; turn < 20; turn += 1) await new Promise((done) => setImmediate(done));
    }
    clock.advance(59_000);
    expect(target.count('sessionsOpen')).toBe(2);
    clock.advance(60_002);
    await eventually(() => target.count('sessionsOpen') === 0);
    expect(target.count('sessionsExpired')).toBe(2);
    expect(region.pins).toBe(0);
  });

  it('gives up on a refused peer that neither ends nor stops sending', async () => {
    const clock = new FakeClock();
    const target = await start({ discardTimeoutMs: 2000 }, clock);
    const client = await dial(target);
    client.write(header(WRITE_V2, 1_000_000, 1));
    expect(await client.rest()).toEqual(STATUS_REJECTED);
    expect(target.count('sessionsOpen')).toBe(1);
    clock.advance(2001);
    await eventually(() => target.count('sessionsOpen') === 0);
  });

  it('reads a bounded number of bytes behind a refusal', async () => {
    const target = await start();
    const client = await dial(target);
    client.write(header(WRITE_V2, 100, 1));
    client.write(Buffer.alloc(30_000_000));
    await eventually(() => target.count('sessionsOpen') === 0);
    expect(target.count('targetBytesIn')).toBeLessThan(10_000_000);
  });

  it('refuses connections beyond its limit, and says so in powers of two', async () => {
    const warnings: object[] = [];
    const logger: Logger = {
      debug: () => undefined,
      info: () => undefined,
      warn: (fields) => warnings.push(fields),
      error: () => undefined,
      child: () => logger,
    };
    const target = await start({ maxSessions: 2 }, undefined, logger);
    const { address } = target.register(Buffer.alloc(10));
    const first = await dial(target);
    await dial(target);
    await eventually(() => target.count('sessionsOpen') === 2);
    for (let index = 0; index < 9; index += 1) {
      const refused = await dial(target);
      expect(await refused.rest()).toEqual(Buffer.alloc(0));
    }
    expect(target.count('sessionsRefused')).toBe(9);
    expect(warnings.length).toBe(4);
    first.write(header(READ_V2, 1, address));
    expect((await first.read(9)).length).toBe(9);
    first.socket.end();
    await eventually(() => target.count('sessionsOpen') === 1);
    const next = await dial(target);
    next.write(header(READ_V2, 1, address));
    expect((await next.read(9)).length).toBe(9);
  });

  it('lives through hostile clients, and serves the others meanwhile', async () => {
    const target = await start();
    const memory = pattern(5000, 9);
    const { address } = target.register(memory);
    const good = await dial(target);
    for (let round = 0; round < 60; round += 1) {
      const hostile = await dial(target);
      const noise = pattern(1 + round * 37, round);
      hostile.write(noise);
      if (round % 3 === 0) hostile.socket.resetAndDestroy();
      else if (round % 3 === 1) hostile.socket.end();
      good.write(header(READ_V2, 5000, address));
      const answer = await good.read(5008);
      expect(answer.subarray(8).equals(memory)).toBe(true);
    }
    for (const client of clients) if (client !== good) client.socket.destroy();
    await eventually(() => target.count('sessionsOpen') === 1);
    expect(memory.equals(pattern(5000, 9))).toBe(true);
  });

  it('holds little for a connection that is idle', async () => {
    const target = await start();
    const { address } = target.register(Buffer.alloc(10));
    const use = async () => {
      const client = await dial(target);
      client.write(header(READ_V2, 1, address));
      await client.read(9);
    };
    for (let index = 0; index < 20; index += 1) await use();
    const before = process.memoryUsage().arrayBuffers;
    for (let index = 0; index < 300; index += 1) await use();
    // Client and target are in this process: a scratch for each would be 300 x 256 KiB.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(300 * 70_000);
  });

  it('closes with requests under way, and lets go of everything', async () => {
    const target = await start();
    const region = target.register(Buffer.alloc(1_000_000));
    const writer = await dial(target);
    writer.write(Buffer.concat([header(WRITE_V2, 500_000, region.address), Buffer.alloc(400_000)]));
    await eventually(() => region.pins === 1);
    await target.transport.close();
    expect(region.pins).toBe(0);
    expect(target.count('sessionsOpen')).toBe(0);
    await writer.until(() => writer.ended || writer.closed);
  });
});
