import { EngineError, Outcome, systemRandom, type Peer } from '@transfer-engine/core/transport';
import { describeSegment, TestRun } from '@transfer-engine/core/testing';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import { tcp } from './index.ts';
import {
  End,
  eventually,
  extendedPeer,
  INSTANCE,
  Loopback,
  pattern,
  read,
  scriptedPeer,
  write,
  type LoopbackOptions,
} from './testing/loopback.ts';

const MIB = 1024 * 1024;
const SIZES = [1, 7, 8, 24, 100, 1024, 1025, 4096, 65_536, 131_071, 131_072, 131_073, 262_145, MIB];

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((pair) => pair.close()));
});

async function start(options: LoopbackOptions = {}): Promise<Loopback> {
  const pair = await Loopback.start(options);
  open.push(pair);
  return pair;
}

/** Writes and reads back pieces of many sizes, in one run each, and compares everything. */
async function movesBothWays(pair: Loopback, sizes: readonly number[]): Promise<void> {
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const memory = Buffer.alloc(total + 2, 0x5a);
  const region = pair.target.register(memory);
  const source = pattern(total, 1);
  const back = Buffer.alloc(total);
  let at = 0;
  const places = sizes.map((size) => {
    at += size;
    return { from: at - size, to: at, address: region.address + 1 + at - size };
  });
  const { route } = pair;
  const writes = await pair.drive(
    route,
    places.map(({ from, to, address }) => write(source.subarray(from, to), address)),
  );
  expect(new Set(pair.sink.codesOf(writes))).toEqual(new Set([Outcome.ok]));
  if (route.writeDurability === 'applied') {
    expect(memory.subarray(1, total + 1).equals(source)).toBe(true);
  }
  await eventually(() => memory.subarray(1, total + 1).equals(source));
  expect([memory[0], memory[total + 1]]).toEqual([0x5a, 0x5a]);
  const reads = await pair.drive(
    route,
    places.map(({ from, to, address }) => read(back.subarray(from, to), address)),
  );
  expect(new Set(pair.sink.codesOf(reads))).toEqual(new Set([Outcome.ok]));
  expect(back.equals(source)).toBe(true);
  expect(region.pins).toBe(0);
}

describe('TCP transport', () => {
  it.each([
    ['IPv4', {}],
    ['IPv6', { address: '::1' }],
    ['a host name, listening on every interface', { address: 'localhost' }],
    ['copying receivers', { initiator: { directRead: false }, target: { directRead: false } }],
    ['one lane', { initiator: { lanesPerPeer: 1 } }],
    ['one slice in flight', { initiator: { lanesPerPeer: 1, laneSlices: 1 } }],
    ['framing x1', { extended: true }],
    [
      'framing x1 with copying receivers',
      { extended: true, initiator: { directRead: false }, target: { directRead: false } },
    ],
    ['framing x1, one slice in flight', { extended: true, initiator: { laneSlices: 1 } }],
    ['framing v1', { environment: { MC_TCP_PROTO: '1' } }],
    [
      'framing v1 with copying receivers',
      {
        environment: { MC_TCP_PROTO: '1' },
        initiator: { directRead: false },
        target: { directRead: false },
      },
    ],
  ] as const)('moves every size both ways: %s', async (_name, options) => {
    await movesBothWays(await start(options), SIZES);
  });

  it('moves 32 MiB in one slice, and small ones beside it', async () => {
    await movesBothWays(await start(), [3, 32 * MIB, 4096, 5 * MIB + 1]);
  });

  it('moves 32 MiB in one slice in framing x1, and small ones beside it', async () => {
    const pair = await start({ extended: true });
    await movesBothWays(pair, [3, 32 * MIB, 4096, 5 * MIB + 1]);
    expect(pair.target.count('extendedSessions')).toBeGreaterThan(0);
  });

  it('moves shared memory', async () => {
    const pair = await start();
    const region = pair.target.register(Buffer.from(new SharedArrayBuffer(300_000) as never));
    const near = Buffer.from(new SharedArrayBuffer(300_000) as never);
    pattern(300_000, 3).copy(near);
    const run = await pair.drive(pair.route, [write(near, region.address)]);
    expect(pair.sink.codesOf(run)).toEqual([Outcome.ok]);
    const back = Buffer.from(new SharedArrayBuffer(300_000) as never);
    await pair.drive(pair.route, [read(back, region.address)]);
    expect(back.equals(pattern(300_000, 3))).toBe(true);
  });

  it('keeps two lanes for any number of requests', async () => {
    const pair = await start();
    const region = pair.target.register(Buffer.alloc(1_000_000));
    const slices = Array.from({ length: 5000 }, (_, index) =>
      write(Buffer.alloc(100, index), region.address + index * 100),
    );
    const { route } = pair;
    const runs = await Promise.all(
      Array.from({ length: 10 }, (_, part) =>
        pair.drive(route, slices.slice(part * 500, part * 500 + 500)),
      ),
    );
    for (const run of runs) expect(new Set(pair.sink.codesOf(run))).toEqual(new Set([Outcome.ok]));
    expect(pair.initiator.count('connectionsOpened')).toBe(2);
    expect(pair.target.count('sessionsAccepted')).toBe(2);
    expect(pair.target.count('writesServed')).toBe(5000);
  });

  it('reads what was just written, again and again', async () => {
    const pair = await start();
    const region = pair.target.register(Buffer.alloc(2_400_000));
    const { route } = pair;
    for (let round = 0; round < 20; round += 1) {
      const source = pattern(2_400_000, round);
      const back = Buffer.alloc(2_400_000);
      await pair.drive(route, [write(source, region.address)]);
      await pair.drive(route, [read(back, region.address)]);
      expect(back.equals(source)).toBe(true);
    }
  });

  it('publishes its port and the framing it serves', async () => {
    const pair = await start();
    const document = describeSegment(pair.target);
    expect(document.protocols).toEqual(['tcp']);
    expect(document.tcpProtoVersion).toBe(2);
    expect(document.tcpDataPort).toBeGreaterThan(0);
  });

  it('publishes framing x1, unless it is strict or its instance does not fit a hello', () => {
    const capabilities = (overrides: object) =>
      describeSegment(new End({}, overrides)).extras?.capabilities;
    expect(capabilities({ instance: INSTANCE })).toEqual(['tcp.x1']);
    expect(capabilities({ instance: INSTANCE, strict: true })).toEqual([]);
    expect(capabilities({ instance: 'a name' })).toEqual([]);
  });

  it('uses framing x1 only with a peer that promises it, and where it may', async () => {
    const checksums = (
      peer: Peer,
      overrides: { strict?: boolean; environment?: Record<string, string> } = {},
    ) => new End({}, overrides).transport.reach(peer)?.checksums ?? false;
    expect(checksums(extendedPeer(1234))).toBe(true);
    expect(checksums(scriptedPeer(1234, 2))).toBe(false);
    expect(checksums(extendedPeer(1234, 'a name'))).toBe(false);
    expect(checksums(extendedPeer(1234), { strict: true })).toBe(false);
    expect(checksums(extendedPeer(1234), { environment: { MC_TCP_PROTO: '1' } })).toBe(false);
    const { descriptor, host } = extendedPeer(1234);
    expect(checksums({ host, descriptor: { ...descriptor, tcpProtoVersion: 1 } })).toBe(false);
    const end = new End({}, {});
    const other = 'fedcba9876543210';
    expect(end.transport.reach(extendedPeer(1234))).toBe(end.transport.reach(extendedPeer(1234)));
    expect(end.transport.reach(extendedPeer(1234, other))).not.toBe(
      end.transport.reach(extendedPeer(1234)),
    );
    await end.transport.close();
  });

  it('chooses the framing by document and environment', async () => {
    const plain = new End({}, {});
    const forced = new End({}, { environment: { MC_TCP_PROTO: '1' } });
    const other = new End({}, { environment: { MC_TCP_PROTO: '2' } });
    const durability = (end: End, version: number) =>
      end.transport.reach(scriptedPeer(1234, version))?.writeDurability;
    expect([1, 2, 3].map((version) => durability(plain, version))).toEqual([
      'sent',
      'applied',
      'applied',
    ]);
    expect(durability(forced, 2)).toBe('sent');
    expect(durability(other, 2)).toBe('applied');
    await Promise.all([plain, forced, other].map(({ transport }) => transport.close()));
  });

  it('has one route for a host, port and framing, and none without a port', async () => {
    const end = new End({}, {});
    const reach = (port: number, version: number) =>
      end.transport.reach(scriptedPeer(port, version));
    const route = reach(1234, 2);
    expect(reach(1234, 2)).toBe(route);
    expect(reach(1234, 1)).not.toBe(route);
    expect(reach(1235, 2)).not.toBe(route);
    expect(reach(0, 2)).toBeUndefined();
    expect(reach(70_000, 2)).toBeUndefined();
    await route?.close();
    expect(reach(1234, 2)).not.toBe(route);
    await end.transport.close();
    expect(reach(1234, 2)).toBeUndefined();
  });

  it('binds inside the port range, and says when there is no room', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as { port: number };
    const full = new End({}, { portRange: { min: port, max: port }, random: systemRandom });
    const failure = await full.transport.start().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(EngineError);
    expect(failure).toMatchObject({ code: 'ERR_TE_PORT_UNAVAILABLE' });
    expect(String(failure)).toContain(String(port));
    await full.transport.close();

    const range = { min: Math.max(port - 20, 1024), max: Math.min(port + 20, 65_535) };
    const ends = Array.from({ length: 3 }, (_, seed) => new End({}, { portRange: range, seed }));
    for (const end of ends) await end.transport.start();
    const ports = ends.map((end) => describeSegment(end).tcpDataPort);
    expect(new Set([...ports, port]).size).toBe(4);
    for (const bound of ports) {
      expect(bound).toBeGreaterThanOrEqual(range.min);
      expect(bound).toBeLessThanOrEqual(range.max);
    }
    await Promise.all(ends.map(({ transport }) => transport.close()));
    taken.close();
  });

  it('refuses options that make no sense', () => {
    for (const options of [
      { lanesPerPeer: 0 },
      { lanesPerPeer: 17 },
      { laneBytes: 1.5 },
      { statusTimeoutMs: Number.NaN },
      { maxSessions: -1 },
      { directRead: 'yes' as unknown as boolean },
    ]) {
      expect(() => tcp(options)).toThrow(/ERR_TE_INVALID_ARGUMENT: tcp\./);
    }
  });

  it('leaves nothing behind: no session, no route, no work', async () => {
    const pair = await start();
    const region = pair.target.register(Buffer.alloc(1000));
    await pair.drive(pair.route, [write(pattern(1000, 1), region.address)]);
    await pair.route.close();
    await eventually(() => pair.target.count('sessionsOpen') === 0);
    expect(pair.initiator.count('connectionsClosed')).toBe(
      pair.initiator.count('connectionsOpened'),
    );
    const { route } = pair;
    await pair.initiator.transport.close();
    expect(route.post(new TestRun([write(Buffer.alloc(1), region.address)]))).toBe(0);
  });
});
