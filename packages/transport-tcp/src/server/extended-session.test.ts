import { describeSegment, FakeClock } from '@transfer-engine/core/testing';
import { afterEach, describe, expect, it } from 'vitest';
import type { TcpOptions } from '../index.ts';
import {
  End,
  eventually,
  header,
  INSTANCE,
  pattern,
  RawClient,
  READ_V1,
  READ_V2,
  STATUS_OK,
  STATUS_REJECTED,
  WRITE_V2,
} from '../testing/loopback.ts';

const open: End[] = [];
const clients: RawClient[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.socket.destroy();
  await Promise.all(open.splice(0).map(({ transport }) => transport.close()));
});

async function start(options: TcpOptions = {}, strict = false, clock?: FakeClock): Promise<End> {
  const end = new End(options, { instance: INSTANCE, strict, ...(clock && { clock }) });
  open.push(end);
  await end.transport.start();
  return end;
}

async function dial(target: End): Promise<RawClient> {
  const client = await RawClient.connect(describeSegment(target).tcpDataPort);
  clients.push(client);
  return client;
}

// Frames are written without the code under test.
const TOKEN = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
const OPEN = 1;
const ABORT = 2;

function hello(kind: number, token = TOKEN, instance = INSTANCE): Buffer {
  const bytes = Buffer.alloc(48);
  bytes.writeBigUInt64LE(BigInt(`0x${instance}`), 8);
  bytes[16] = 0xfe;
  bytes.write('TEX1', 17, 'latin1');
  bytes[21] = kind;
  token.copy(bytes, 24);
  return bytes;
}

function request(opcode: 'read' | 'write', length: number, address: number, id: number): Buffer {
  const bytes = header(opcode === 'read' ? 0xc0 : 0xc1, length, address);
  bytes.writeUInt16LE(id, 18);
  return bytes;
}

function answer(code: number, id: number, applied = 0, value?: number, flags = 0): Buffer {
  const bytes = Buffer.alloc(24);
  bytes.writeUInt32LE(code, 0);
  bytes.write('VTCM', 4, 'latin1');
  bytes.writeUInt16LE(id, 8);
  bytes[10] = flags | (value === undefined ? 0 : 1);
  bytes.writeUInt32LE(value ?? 0, 12);
  bytes.writeBigUInt64LE(BigInt(applied), 16);
  return bytes;
}

async function greeted(target: End, token = TOKEN): Promise<RawClient> {
  const client = await dial(target);
  client.write(hello(OPEN, token));
  expect(await client.read(24)).toEqual(answer(0, 0));
  return client;
}

const variants: [string, TcpOptions][] = [
  ['reading directly', {}],
  ['copying', { directRead: false }],
];

describe.each(variants)('session in framing x1, %s', (_name, options) => {
  it('serves all framings side by side, and in pieces of any size', async () => {
    const target = await start(options);
    const memory = pattern(1000, 1);
    const { address } = target.register(memory);
    const [plain, old, extended] = [await dial(target), await dial(target), await dial(target)];
    plain.write(header(READ_V2, 10, address));
    old.write(header(READ_V1, 5, address));
    const bytes = [hello(OPEN), request('write', 3, address + 500, 1), Buffer.from('xyz')];
    bytes.push(request('read', 4, address, 2));
    for (const byte of Buffer.concat(bytes)) {
      extended.write(Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await plain.read(18)).toEqual(Buffer.concat([STATUS_OK, memory.subarray(0, 10)]));
    expect(await old.read(5)).toEqual(memory.subarray(0, 5));
    expect(await extended.read(24 * 3 + 4)).toEqual(
      Buffer.concat([answer(0, 0), answer(0, 1, 3), answer(0, 2), memory.subarray(0, 4)]),
    );
    expect(memory.toString('latin1', 500, 503)).toBe('xyz');
    expect(target.count('extendedSessions')).toBe(1);
  });

  it('throws the body of a refused write away, and goes on', async () => {
    const target = await start(options);
    const memory = Buffer.alloc(100);
    const { address, end } = target.register(memory);
    const client = await greeted(target);
    client.write(request('write', 3_000_000, end, 1));
    expect(await client.read(24)).toEqual(answer(1, 1));
    client.write(Buffer.alloc(3_000_000, 0xee));
    client.write(Buffer.concat([request('read', 0, address, 2), request('read', 7, address, 3)]));
    expect(await client.read(55)).toEqual(
      Buffer.concat([answer(1, 2), answer(0, 3), Buffer.alloc(7)]),
    );
    expect(target.count('requestsRefused')).toBe(2);
  });

  it('ends behind the refusal of a body above 8 MiB', async () => {
    const target = await start(options);
    const client = await greeted(target);
    client.write(request('write', 8 * 1024 * 1024 + 1, 5, 1));
    expect(await client.rest()).toEqual(answer(1, 1));
  });

  it('an abort ends the connection that has the token, and tells how far it came', async () => {
    const target = await start(options);
    const memory = Buffer.alloc(1_000_000);
    const { address } = target.register(memory);
    const client = await greeted(target);
    client.write(Buffer.concat([request('write', 10, address, 1), pattern(10, 1)]));
    client.write(request('read', 5, address, 2));
    client.write(request('write', 5, 1, 3));
    client.write(Buffer.alloc(5));
    client.write(
      Buffer.concat([
        request('write', 900_000, address, 4),
        pattern(900_000, 2).subarray(0, 300_000),
      ]),
    );
    const before = 48 + 34 + 24 + 29 + 24 + 300_000;
    await eventually(() => target.count('targetBytesIn') === before);
    const aborting = await dial(target);
    aborting.write(hello(ABORT));
    // Three are finished, two of them well; the fourth was under way.
    expect(await aborting.rest()).toEqual(answer(4, 4, 300_000, 2, 2));
    client.write(pattern(900_000, 2).subarray(300_000));
    await client.until(() => client.closed || client.ended);
    expect(memory.subarray(0, 300_000).equals(pattern(900_000, 2).subarray(0, 300_000))).toBe(true);
    expect(memory.subarray(300_000).every((byte) => byte === 0)).toBe(true);
    await eventually(() => target.count('sessionsOpen') === 0 || aborting.ended);
    const late = await dial(target);
    late.write(hello(ABORT));
    expect(await late.rest()).toEqual(answer(1, 0));
  });
});

describe('hellos', () => {
  it('for another instance are stale, whatever they are for', async () => {
    const target = await start();
    const memory = Buffer.alloc(10);
    const { address } = target.register(memory);
    for (const kind of [OPEN, ABORT]) {
      const client = await dial(target);
      client.write(hello(kind, TOKEN, 'fedcba9876543210'));
      client.write(Buffer.concat([request('write', 10, address, 1), pattern(10, 1)]));
      expect(await client.rest()).toEqual(answer(3, 0));
    }
    expect(memory.every((byte) => byte === 0)).toBe(true);
  });

  it('with a token that is taken are refused; a token is free when its connection has ended', async () => {
    const target = await start();
    const first = await greeted(target);
    const second = await dial(target);
    second.write(hello(OPEN));
    expect(await second.rest()).toEqual(answer(1, 0));
    second.socket.end();
    first.socket.end();
    await eventually(() => target.count('sessionsOpen') === 0);
    await greeted(target);
  });

  it('are no requests of the older framings, and do not come later', async () => {
    const target = await start();
    const { address } = target.register(pattern(10, 1));
    const client = await dial(target);
    client.write(Buffer.concat([header(READ_V2, 2, address), hello(OPEN)]));
    expect(await client.rest()).toEqual(
      Buffer.concat([STATUS_OK, pattern(10, 1).subarray(0, 2), STATUS_REJECTED]),
    );
  });

  it('are not understood by a strict engine', async () => {
    const target = await start({}, true);
    const client = await dial(target);
    client.write(hello(OPEN));
    expect(await client.rest()).toEqual(STATUS_REJECTED);
  });

  it('that stop in the middle are cut, or too slow', async () => {
    const clock = new FakeClock();
    const target = await start({}, false, clock);
    const cut = await dial(target);
    cut.socket.end(hello(OPEN).subarray(0, 24));
    await eventually(() => target.count('sessionsTruncated') === 1);
    const slow = await dial(target);
    slow.write(hello(OPEN).subarray(0, 24));
    await eventually(() => target.count('targetBytesIn') === 48);
    clock.advance(10_001);
    await eventually(() => target.count('sessionsExpired') === 1);
  });

  it('bind the connection: older requests and numbers out of order end it', async () => {
    const target = await start();
    const memory = Buffer.alloc(10);
    const { address } = target.register(memory);
    for (const wrong of [
      header(WRITE_V2, 10, address),
      request('write', 10, address, 0),
      request('write', 10, address, 2),
    ]) {
      const client = await greeted(target);
      client.write(Buffer.concat([wrong, pattern(10, 1)]));
      expect(await client.rest()).toEqual(Buffer.alloc(0));
      await eventually(() => target.count('sessionsOpen') === 0);
    }
    expect(memory.every((byte) => byte === 0)).toBe(true);
  });
});

describe('checksums', () => {
  it('are compared before a write is acknowledged', async () => {
    const target = await start();
    const { address } = target.register(Buffer.alloc(100));
    const client = await greeted(target);
    const write = request('write', 9, address, 1);
    write[17] = 1;
    // CRC-32 of the digits 1 to 9 is the check value of the algorithm.
    write.writeUInt32LE(0xcbf4_3926, 20);
    client.write(Buffer.concat([write, Buffer.from('123456789')]));
    expect(await client.read(24)).toEqual(answer(0, 1, 9));
    write.writeUInt16LE(2, 18);
    client.write(Buffer.concat([write, Buffer.from('123456788')]));
    expect(await client.read(24)).toEqual(answer(2, 2, 9));
    expect(target.count('corruptWrites')).toBe(1);
    expect(target.count('writesServed')).toBe(1);
  });

  it('come with a read that asks for one', async () => {
    const target = await start();
    const { address } = target.register(Buffer.from('123456789'));
    const client = await greeted(target);
    const read = request('read', 9, address, 1);
    read[17] = 1;
    client.write(read);
    expect(await client.read(33)).toEqual(
      Buffer.concat([answer(0, 1, 0, 0xcbf4_3926), Buffer.from('123456789')]),
    );
  });
});
