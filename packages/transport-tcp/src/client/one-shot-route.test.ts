import type { Socket } from 'node:net';
import { Outcome } from '@transfer-engine/core/transport';
import { FakeClock, TestRun } from '@transfer-engine/core/testing';
import { afterEach, describe, expect, it } from 'vitest';
import type { TcpOptions } from '../index.ts';
import { eventually, pattern, read, ScriptedPeer, write } from '../testing/loopback.ts';

const open: ScriptedPeer[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((peer) => peer.close()));
});

async function start(
  onSocket: (socket: Socket, index: number) => void,
  options: TcpOptions = {},
  clock?: FakeClock,
): Promise<ScriptedPeer> {
  const peer = await ScriptedPeer.start(onSocket, options, clock === undefined ? {} : { clock });
  open.push(peer);
  return peer;
}

/** A server as up to v0.3.9: one request from its memory, then the end. */
function oneShotServer(memory: Buffer): (socket: Socket) => void {
  return (socket) => {
    let bytes = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      if (bytes.length < 24) return;
      const length = Number(bytes.readBigUInt64LE(0));
      const address = Number(bytes.readBigUInt64LE(8));
      if (bytes[16] === 0) {
        socket.end(memory.subarray(address, address + length));
      } else if (bytes.length === 24 + length) {
        bytes.copy(memory, address, 24);
        socket.end();
      }
    });
  };
}

describe('route towards a v1 peer', () => {
  it('writes and reads with a connection each, against a server that serves one request', async () => {
    const memory = Buffer.alloc(400_000);
    const peer = await start(oneShotServer(memory));
    const route = peer.route(1);
    expect(route.sliceBytes).toBe(Number.POSITIVE_INFINITY);
    expect(route.writeDurability).toBe('sent');
    const source = pattern(300_000, 1);
    const writes = new TestRun([
      write(source.subarray(0, 100), 50),
      write(source.subarray(100), 150),
    ]);
    expect(route.post(writes)).toBe(2);
    await peer.sink.settled(writes, 2);
    expect(peer.sink.codesOf(writes)).toEqual([Outcome.ok, Outcome.ok]);
    await eventually(() => memory.subarray(50, 300_050).equals(source));
    const target = Buffer.alloc(300_000);
    const reads = new TestRun([
      read(target.subarray(0, 7), 50),
      read(target.subarray(7, 200_000), 57),
      read(target.subarray(200_000), 200_050),
    ]);
    route.post(reads);
    await peer.sink.settled(reads, 3);
    expect(peer.sink.codesOf(reads)).toEqual([Outcome.ok, Outcome.ok, Outcome.ok]);
    expect(target.equals(source)).toBe(true);
    expect(peer.initiator.count('connectionsOpened')).toBe(5);
  });

  it('sends the v1 opcodes', async () => {
    const heads: string[] = [];
    const peer = await start((socket) => {
      socket.once('data', (bytes: Buffer) => {
        heads.push(bytes.subarray(0, 24).toString('hex'));
        if (bytes[16] === 0) socket.write(Buffer.alloc(3));
        socket.end();
      });
    });
    const posted = new TestRun([write(Buffer.alloc(3), 1), read(Buffer.alloc(3), 2)]);
    peer.route(1).post(posted);
    await peer.sink.settled(posted, 2);
    expect(heads.sort()).toEqual([
      '0300000000000000' + '0100000000000000' + '0100000000000000',
      '0300000000000000' + '0200000000000000' + '0000000000000000',
    ]);
  });

  it('serves a few requests at a time, and queues a bounded number', async () => {
    const memory = Buffer.alloc(2000);
    const serve = oneShotServer(memory);
    let openNow = 0;
    let openMost = 0;
    const peer = await start(
      (socket) => {
        openNow += 1;
        openMost = Math.max(openMost, openNow);
        socket.once('close', () => (openNow -= 1));
        serve(socket);
      },
      { lanesPerPeer: 2 },
    );
    const route = peer.route(1);
    const source = pattern(1000, 5);
    const posted = new TestRun(
      Array.from({ length: 1000 }, (_, index) => write(source.subarray(index, index + 1), index)),
    );
    const first = route.post(posted);
    expect(first).toBeGreaterThanOrEqual(4);
    expect(first).toBeLessThan(1000);
    while (posted.left > 0) {
      const { calls } = peer.sink;
      await peer.sink.until(() => peer.sink.calls > calls);
      route.post(posted);
    }
    await peer.sink.settled(posted, 1000);
    expect(new Set(peer.sink.codesOf(posted))).toEqual(new Set([Outcome.ok]));
    await eventually(() => memory.subarray(0, 1000).equals(source));
    // The server may hear of an end after the client has begun the next connection.
    expect(openMost).toBeLessThanOrEqual(8);
  });

  it('reports in order though the second request ends first', async () => {
    const peer = await start((socket, index) => {
      socket.once('data', () => {
        if (index === 1) socket.end(Buffer.from('22'));
      });
    });
    const posted = new TestRun([read(Buffer.alloc(1), 1), read(Buffer.alloc(2), 2)]);
    peer.route(1).post(posted);
    await eventually(() => peer.initiator.count('connectionsClosed') === 1);
    expect(peer.sink.total).toBe(0);
    peer.sockets[0]?.end(Buffer.from('1'));
    await peer.sink.settled(posted, 2);
    expect(peer.sink.codesOf(posted)).toEqual([Outcome.ok, Outcome.ok]);
  });

  it('takes an end without bytes, or with too few, for a lost peer', async () => {
    const peer = await start((socket, index) =>
      socket.once('data', () => socket.end(Buffer.alloc(index))),
    );
    const posted = new TestRun([read(Buffer.alloc(9), 1), read(Buffer.alloc(9), 1)]);
    peer.route(1).post(posted);
    await peer.sink.settled(posted, 2);
    expect(peer.sink.codesOf(posted)).toEqual([Outcome.peerLost, Outcome.peerLost]);
  });

  it('takes a reset before the end of a write for a lost peer', async () => {
    const peer = await start((socket) => socket.once('data', () => socket.resetAndDestroy()));
    const posted = new TestRun([write(Buffer.alloc(10), 1)]);
    peer.route(1).post(posted);
    await peer.sink.settled(posted, 1);
    expect(peer.sink.of(posted)[0]).toMatchObject({
      outcome: Outcome.peerLost,
      aftermath: { destination: 'quiescent' },
    });
  });

  it('waits a bounded time for the peer to take a write', async () => {
    const clock = new FakeClock();
    const peer = await start(() => undefined, { flushTimeoutMs: 2000 }, clock);
    const posted = new TestRun([write(Buffer.alloc(10), 1)]);
    peer.route(1).post(posted);
    const socket = await peer.accepted();
    socket.resume();
    await eventually(() => socket.readableEnded);
    expect(peer.sink.total).toBe(0);
    clock.advance(2001);
    await peer.sink.settled(posted, 1);
    expect(peer.sink.codesOf(posted)).toEqual([Outcome.ok]);
  });

  it('lets a write that was sent reach the peer before it closes', async () => {
    const memory = Buffer.alloc(100);
    let serve: (() => void) | undefined;
    const peer = await start((socket) => {
      serve = () => oneShotServer(memory)(socket);
    });
    const source = pattern(100, 1);
    const posted = new TestRun([write(source, 0)]);
    const route = peer.route(1);
    route.post(posted);
    await peer.accepted();
    await eventually(() => peer.initiator.count('initiatorBytesOut') === 124);
    await new Promise((resolve) => setImmediate(resolve));
    const closing = route.close();
    serve?.();
    await closing;
    expect(peer.sink.codesOf(posted)).toEqual([Outcome.ok]);
    expect(memory.equals(source)).toBe(true);
  });

  it('cancels what waits at once, and what is served after the grace', async () => {
    const clock = new FakeClock();
    const peer = await start(() => undefined, { lanesPerPeer: 1 }, clock);
    const posted = new TestRun([1, 2, 3, 4].map((address) => read(Buffer.alloc(10), address)));
    const route = peer.route(1);
    route.post(posted);
    await eventually(() => peer.initiator.count('initiatorBytesOut') === 48);
    route.cancel(posted, 50);
    clock.advance(51);
    await peer.sink.settled(posted, 4);
    expect(new Set(peer.sink.codesOf(posted))).toEqual(new Set([Outcome.canceled]));
    expect(peer.initiator.count('connectionsOpened')).toBe(2);
  });

  it('ends everything when it is closed', async () => {
    const peer = await start(() => undefined, { lanesPerPeer: 1 });
    const posted = new TestRun([1, 2, 3, 4].map((address) => read(Buffer.alloc(10), address)));
    const route = peer.route(1);
    route.post(posted);
    await peer.accepted();
    await route.close();
    expect(peer.sink.codesOf(posted)).toEqual(new Array(4).fill(Outcome.canceled));
    expect(route.post(new TestRun([read(Buffer.alloc(1), 1)]))).toBe(0);
  });

  it('says that nothing could be reached', async () => {
    const peer = await start(() => undefined);
    await peer.stop();
    const posted = new TestRun([1, 2].map((address) => write(Buffer.alloc(10), address)));
    peer.route(1).post(posted);
    await peer.sink.settled(posted, 2);
    expect(peer.sink.codesOf(posted)).toEqual([Outcome.connectFailed, Outcome.connectFailed]);
  });
});
