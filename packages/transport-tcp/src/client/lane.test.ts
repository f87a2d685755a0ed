import type { Socket } from 'node:net';
import { BufferStore, Outcome, type ByteStore } from '@transfer-engine/core/transport';
import { FakeClock, TestRun, type RecordedOutcome } from '@transfer-engine/core/testing';
import { afterEach, describe, expect, it } from 'vitest';
import type { TcpOptions } from '../index.ts';
import {
  eventually,
  pattern,
  read,
  ScriptedPeer,
  scriptedPeer,
  STATUS_OK,
  STATUS_REJECTED,
  write,
} from '../testing/loopback.ts';

const ONE_LANE: TcpOptions = { lanesPerPeer: 1 };
const open: ScriptedPeer[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((peer) => peer.close()));
});

async function start(
  onSocket: (socket: Socket, index: number) => void,
  options: TcpOptions = ONE_LANE,
  clock?: FakeClock,
  environment: Record<string, string> = {},
): Promise<ScriptedPeer> {
  const overrides = clock === undefined ? { environment } : { clock, environment };
  const peer = await ScriptedPeer.start(onSocket, options, overrides);
  open.push(peer);
  return peer;
}

/** Calls back with everything that has come so far, each time that something comes. */
function collect(socket: Socket, onBytes: (bytes: Buffer) => void): void {
  let all = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    all = Buffer.concat([all, chunk]);
    onBytes(all);
  });
}

/** Answers every v2 WRITE of `length` bytes. */
function acknowledge(socket: Socket, length: number): void {
  let answered = 0;
  collect(socket, (bytes) => {
    for (; (answered + 1) * (24 + length) <= bytes.length; answered += 1) socket.write(STATUS_OK);
  });
}

async function run(peer: ScriptedPeer, ...slices: ReturnType<typeof write>[]) {
  const posted = new TestRun(slices);
  expect(peer.route().post(posted)).toBe(slices.length);
  await peer.sink.settled(posted, slices.length);
  return peer.sink.of(posted);
}

const codes = (records: readonly RecordedOutcome[]) => records.map(({ outcome }) => outcome);
const at = ({ aftermath }: RecordedOutcome) => aftermath.destination;

describe('lane towards a v2 peer', () => {
  it('sends many requests without waiting, and in one connection', async () => {
    const peer = await start(() => undefined);
    const posted = new TestRun([
      write(pattern(100, 1), 0x1000),
      read(Buffer.alloc(200), 0x2000),
      write(pattern(3000, 2), 0xffff_ffff_ffff_0000n),
    ]);
    peer.route().post(posted);
    const socket = await peer.accepted();
    let sent: Buffer = Buffer.alloc(0);
    collect(socket, (bytes) => (sent = bytes));
    await eventually(() => sent.length >= 24 * 3 + 3100);
    expect(sent.subarray(0, 24).toString('hex')).toBe(
      '6400000000000000' + '0010000000000000' + '8100000000000000',
    );
    expect(sent.subarray(24, 124).equals(pattern(100, 1))).toBe(true);
    expect(sent.subarray(124, 148).toString('hex')).toBe(
      'c800000000000000' + '0020000000000000' + '8000000000000000',
    );
    expect(sent.subarray(148, 172).toString('hex')).toBe(
      'b80b000000000000' + '0000ffffffffffff' + '8100000000000000',
    );
    expect(sent.subarray(172).equals(pattern(3000, 2))).toBe(true);
    expect(peer.sink.total).toBe(0);
    // Answers in the smallest pieces there are.
    const answers = Buffer.concat([STATUS_OK, STATUS_OK, pattern(200, 3), STATUS_OK]);
    for (const byte of answers) socket.write(Buffer.of(byte));
    await peer.sink.settled(posted, 3);
    expect(peer.sink.codesOf(posted)).toEqual([Outcome.ok, Outcome.ok, Outcome.ok]);
  });

  it('reports a write that is acknowledged early only when its bytes have left', async () => {
    const peer = await start((socket) => {
      socket.pause();
      socket.write(STATUS_OK);
    });
    const source = pattern(64 * 1024 * 1024, 1);
    const posted = new TestRun([write(source, 0x1000)]);
    peer.route().post(posted);
    const socket = await peer.accepted();
    // The acknowledgement is there long before the payload could have left.
    await eventually(() => peer.initiator.count('initiatorBytesIn') === 8);
    expect(peer.sink.total).toBe(0);
    let received = 0;
    const hash = Buffer.alloc(source.length);
    socket.on('data', (chunk: Buffer) => {
      chunk.copy(hash, received - 24 < 0 ? 0 : received - 24, received < 24 ? 24 - received : 0);
      received += chunk.length;
    });
    socket.resume();
    await peer.sink.settled(posted, 1);
    source.fill(0);
    await eventually(() => received === source.length + 24);
    expect(peer.sink.codesOf(posted)).toEqual([Outcome.ok]);
    expect(hash.equals(pattern(64 * 1024 * 1024, 1))).toBe(true);
  });

  it('reports a refusal, and gives back what stood behind it', async () => {
    const peer = await start((socket) => {
      let answered = false;
      collect(socket, (bytes) => {
        if (answered || bytes.length < 3 * 24 + 30) return;
        answered = true;
        socket.write(Buffer.concat([STATUS_OK, STATUS_REJECTED]));
      });
    });
    const ended = await run(
      peer,
      ...[0x1000, 0xdead_beef, 0x3000].map((address) => write(pattern(10, 1), address)),
    );
    expect(codes(ended)).toEqual([Outcome.ok, Outcome.rejected, Outcome.replay]);
    expect(ended[1]?.error).toMatchObject({
      code: 'ERR_TE_ADDRESS_REJECTED',
      details: { address: 0xdead_beefn, length: 10, peer: `127.0.0.1:${peer.port}` },
    });
    expect(ended[1]?.error?.message).toContain('0xdeadbeef');
    expect(ended.slice(1).map(at)).toEqual(['untouched', 'untouched']);
  });

  it('finds a refusal though the peer resets the connection right behind it', async () => {
    // As C++ targets do: they close with the payload unread.
    const peer = await start((socket) => {
      socket.once('data', () => {
        socket.pause();
        socket.write(STATUS_REJECTED, () => socket.destroy());
      });
    });
    const source = pattern(1024 * 1024, 1);
    for (let round = 0; round < 20; round += 1) {
      const ended = await run(peer, write(source, 1), write(source, 2), write(source, 3));
      expect(codes(ended)).toEqual([Outcome.rejected, Outcome.replay, Outcome.replay]);
    }
  });

  it('tells of the progress of slices that take long, and not of others', async () => {
    const peer = await start((socket) =>
      socket.once('data', () => socket.write(Buffer.concat([STATUS_OK, Buffer.alloc(3_000_000)]))),
    );
    const long = new TestRun([read(Buffer.alloc(4_000_000), 1)]);
    peer.route().post(long);
    await eventually(() => peer.initiator.count('initiatorBytesIn') === 3_000_008);
    expect(peer.sink.progressOf(long)).toBeGreaterThan(1);
    await peer.route().close();
    expect(peer.sink.of(long)[0]?.aftermath).toEqual({
      destination: 'quiescent',
      appliedBytes: 3_000_000,
    });
    const short = await start((socket) => acknowledge(socket, 1_000_000));
    const posted = new TestRun([write(pattern(1_000_000, 1), 1)]);
    short.route().post(posted);
    await short.sink.settled(posted, 1);
    expect(short.sink.progressOf(posted)).toBe(0);
  });

  it('lets go of the source of a large refused write before it says so', async () => {
    const peer = await start((socket) => {
      socket.pause();
      socket.end(STATUS_REJECTED);
    });
    const source = pattern(32 * 1024 * 1024, 1);
    const ended = await run(peer, write(source, 0x1000));
    expect(codes(ended)).toEqual([Outcome.rejected]);
    source.fill(0xee);
    const socket = await peer.accepted();
    let poisoned = false;
    socket.on('data', (chunk: Buffer) => (poisoned ||= chunk.includes(Buffer.alloc(64, 0xee))));
    socket.resume();
    await eventually(() => socket.destroyed || socket.readableEnded);
    expect(poisoned).toBe(false);
  });

  it('ends with a peer that streams payload instead of a status, as old servers do', async () => {
    const peer = await start((socket) => socket.once('data', () => socket.write(pattern(64, 9))));
    const ended = await run(peer, write(pattern(64, 1), 0x1000), write(pattern(64, 2), 0x2000));
    // What may still be applied is not to be sent again.
    expect(codes(ended)).toEqual([Outcome.protocolError, Outcome.timeout]);
    expect(ended[0]?.error).toMatchObject({ code: 'ERR_TE_PROTOCOL' });
    expect(ended.map(at)).toEqual(['unknown', 'unknown']);
    expect(peer.initiator.count('initiatorProtocolErrors')).toBe(1);
  });

  it('ends with a peer that answers what nobody asked', async () => {
    const peer = await start((socket) =>
      socket.once('data', () => socket.write(Buffer.concat([STATUS_OK, STATUS_OK]))),
    );
    expect(codes(await run(peer, write(pattern(64, 1), 0x1000)))).toEqual([Outcome.ok]);
    await eventually(() => peer.initiator.count('connectionsClosed') === 1);
    expect(peer.initiator.count('initiatorProtocolErrors')).toBe(1);
  });

  it('blames the end of the connection on the request that was being served', async () => {
    const peer = await start((socket) => {
      collect(socket, (bytes) => {
        if (bytes.length < 3 * 34) return;
        socket.write(STATUS_OK);
        socket.end();
      });
    });
    const ended = await run(peer, ...[1, 2, 3].map((seed) => write(pattern(10, seed), seed)));
    expect(codes(ended)).toEqual([Outcome.ok, Outcome.peerLost, Outcome.replay]);
    expect(ended[1]?.error).toMatchObject({ code: 'ERR_TE_PEER_LOST' });
    expect(ended.slice(1).map(at)).toEqual(['quiescent', 'quiescent']);
  });

  it('ends when the connection is reset inside a payload', async () => {
    const peer = await start((socket) =>
      socket.once('data', () => {
        socket.write(Buffer.concat([STATUS_OK, pattern(500_000, 1)]), () =>
          socket.resetAndDestroy(),
        );
      }),
    );
    const target = Buffer.alloc(1_000_000);
    const [ended] = await run(peer, read(target, 0x1000));
    expect(ended?.outcome).toBe(Outcome.peerLost);
    // A reset may take bytes with it that were on their way.
    const { appliedBytes = 0 } = ended?.aftermath ?? {};
    const expected = Buffer.alloc(1_000_000);
    pattern(500_000, 1).copy(expected, 0, 0, appliedBytes);
    expect(target.equals(expected)).toBe(true);
    const copy = Buffer.from(target);
    await eventually(() => peer.initiator.count('connectionsClosed') === 1);
    expect(target.equals(copy)).toBe(true);
  });

  it('opens a new connection after a failure, when there is work', async () => {
    const peer = await start((socket, index) => {
      if (index === 0) socket.once('data', () => socket.destroy());
      else acknowledge(socket, 10);
    });
    expect(codes(await run(peer, write(pattern(10, 1), 1)))).toEqual([Outcome.peerLost]);
    expect(peer.sockets.length).toBe(1);
    expect(codes(await run(peer, write(pattern(10, 1), 1)))).toEqual([Outcome.ok]);
    expect(peer.sockets.length).toBe(2);
  });

  it('drops an idle connection that ends, without a word', async () => {
    const peer = await start((socket) => acknowledge(socket, 10));
    await run(peer, write(pattern(10, 1), 1));
    peer.sockets[0]?.end();
    await eventually(() => peer.initiator.count('connectionsClosed') === 1);
    expect(peer.sink.total).toBe(1);
    expect(codes(await run(peer, write(pattern(10, 1), 1)))).toEqual([Outcome.ok]);
  });

  it('replays what was sent on a connection that had died while idle', async () => {
    const peer = await start((socket, index) => {
      collect(socket, (bytes) => {
        if (index === 0 && bytes.length === 34) socket.write(STATUS_OK);
        // Takes the next request without an answer.
        else if (bytes.length >= 35) socket.resetAndDestroy();
      });
    });
    expect(codes(await run(peer, write(pattern(10, 1), 1)))).toEqual([Outcome.ok]);
    expect(codes(await run(peer, write(pattern(11, 1), 1)))).toEqual([Outcome.replay]);
    // The next connection is a fresh one: nothing excuses its end.
    expect(codes(await run(peer, write(pattern(11, 1), 1)))).toEqual([Outcome.peerLost]);
  });

  it('fails everything when no connection can be made', async () => {
    const peer = await start(() => undefined);
    await peer.stop();
    const ended = await run(peer, write(pattern(10, 1), 1), write(pattern(10, 2), 2));
    expect(codes(ended)).toEqual([Outcome.connectFailed, Outcome.connectFailed]);
    expect(ended[0]?.error).toMatchObject({ code: 'ERR_TE_CONNECT_FAILED' });
    expect(ended[0]?.error?.message).toContain(`127.0.0.1:${peer.port}`);
    expect(ended[0]?.error?.message).toContain('ECONNREFUSED');
    expect(ended.map(at)).toEqual(['untouched', 'untouched']);
  });

  it('names a host that does not exist', async () => {
    const peer = await start(() => undefined);
    const { descriptor } = scriptedPeer(1, 2);
    const route = peer.initiator.transport.reach({ descriptor, host: 'no-such-host.invalid' });
    const posted = new TestRun([write(pattern(10, 1), 1)]);
    route?.post(posted);
    await peer.sink.settled(posted, 1);
    expect(peer.sink.of(posted)[0]).toMatchObject({
      outcome: Outcome.connectFailed,
      error: { code: 'ERR_TE_DNS' },
    });
  });

  it('gives up connecting after its bound', async () => {
    const clock = new FakeClock();
    const peer = await start(() => undefined, { connectTimeoutMs: 700 }, clock);
    const { descriptor } = scriptedPeer(9, 2);
    // A documentation address: where it is not refused at once, nobody answers.
    const route = peer.initiator.transport.reach({ descriptor, host: '192.0.2.1' });
    const posted = new TestRun([write(pattern(10, 1), 1)]);
    route?.post(posted);
    await eventually(() => peer.initiator.count('connectionsOpened') === 1);
    clock.advance(701);
    await peer.sink.settled(posted, 1);
    expect(peer.sink.codesOf(posted)).toEqual([Outcome.connectFailed]);
  });

  it('replays what waited for a second lane when only the first can be connected', async () => {
    const peer = await start(() => undefined, { lanesPerPeer: 2 });
    const first = new TestRun([write(pattern(10, 1), 1)]);
    peer.route().post(first);
    const socket = await peer.accepted();
    await eventually(() => socket.bytesRead === 0 && peer.initiator.count('initiatorBytesOut') > 0);
    // From now on connections are refused; the one that is there lives on.
    const { route } = { route: peer.route() };
    peer.refuseMore();
    const second = new TestRun([write(pattern(10, 2), 2)]);
    route.post(second);
    await peer.sink.settled(second, 1);
    expect(peer.sink.codesOf(second)).toEqual([Outcome.replay]);
    expect(peer.initiator.count('connectFailures')).toBe(1);
    // While the second lane is not tried again, work goes to the first.
    const third = new TestRun([write(pattern(10, 3), 3)]);
    route.post(third);
    acknowledge(socket, 10);
    await peer.sink.settled(third, 1);
    expect(peer.sink.codesOf(third)).toEqual([Outcome.ok]);
    expect(peer.initiator.count('connectionsOpened')).toBe(2);
  });
});

describe('bounds of a lane', () => {
  it('waits for a status as long as MC_TCP_STATUS_TIMEOUT_SEC says, and no longer', async () => {
    const clock = new FakeClock();
    const environment = { MC_TCP_STATUS_TIMEOUT_SEC: '3' };
    const peer = await start(() => undefined, ONE_LANE, clock, environment);
    const posted = new TestRun([write(pattern(5, 1), 1), read(Buffer.alloc(10), 2)]);
    peer.route().post(posted);
    const socket = await peer.accepted();
    // Less than a status frame, as from an old server with a short answer.
    socket.once('data', () => socket.write(Buffer.alloc(5)));
    await eventually(() => peer.initiator.count('initiatorBytesIn') === 5);
    clock.advance(2900);
    await new Promise((resolve) => setImmediate(resolve));
    expect(peer.sink.total).toBe(0);
    clock.advance(200);
    // The peer may prove that it is at rest, for a moment.
    expect(peer.sink.total).toBe(0);
    clock.advance(250);
    await peer.sink.settled(posted, 2);
    const ended = peer.sink.of(posted);
    expect(codes(ended)).toEqual([Outcome.timeout, Outcome.replay]);
    expect(ended[0]?.error).toMatchObject({ code: 'ERR_TE_TIMEOUT', name: 'TimeoutError' });
    // The peer may still apply the write; the read's destination is ours and at rest.
    expect(ended.map(at)).toEqual(['unknown', 'untouched']);
  });

  it('ends when no byte moves any more', async () => {
    const clock = new FakeClock();
    const peer = await start(
      (socket) => {
        socket.once('data', () => socket.write(Buffer.concat([STATUS_OK, Buffer.alloc(100)])));
      },
      { lanesPerPeer: 1, stallTimeoutMs: 5000 },
      clock,
    );
    const posted = new TestRun([read(Buffer.alloc(1000), 1)]);
    peer.route().post(posted);
    await eventually(() => peer.initiator.count('initiatorBytesIn') === 108);
    clock.advance(4999);
    expect(peer.sink.total).toBe(0);
    clock.advance(2);
    await peer.sink.settled(posted, 1);
    expect(peer.sink.of(posted)[0]).toMatchObject({
      outcome: Outcome.timeout,
      aftermath: { destination: 'quiescent', appliedBytes: 100 },
    });
    expect(peer.sink.of(posted)[0]?.error?.details).toMatchObject({ bytesDone: 100 });
  });

  it('goes on as long as bytes move, and keeps no timer when idle', async () => {
    const clock = new FakeClock();
    const peer = await start(() => undefined, { lanesPerPeer: 1, stallTimeoutMs: 1000 }, clock);
    const posted = new TestRun([read(Buffer.alloc(20), 1)]);
    peer.route().post(posted);
    const socket = await peer.accepted();
    socket.write(STATUS_OK);
    for (let byte = 1; byte <= 20; byte += 1) {
      await eventually(() => peer.initiator.count('initiatorBytesIn') === 7 + byte);
      clock.advance(900);
      socket.write(Buffer.of(byte));
    }
    await peer.sink.settled(posted, 1);
    expect(peer.sink.codesOf(posted)).toEqual([Outcome.ok]);
    clock.advance(2000);
    expect(clock.pendingTimers).toBe(0);
  });

  it('takes what has room, and at least one slice however large', async () => {
    const peer = await start(() => undefined, {
      lanesPerPeer: 2,
      laneSlices: 4,
      laneBytes: 1000,
    });
    const route = peer.route();
    const post = (...lengths: number[]) =>
      route.post(new TestRun(lengths.map((length) => write(Buffer.alloc(length), 1))));
    expect(post(5000, 1)).toBe(1);
    expect(post(400, 400, 400)).toBe(2);
    expect(post(300)).toBe(0);
    expect(post(200, 1)).toBe(1);
    expect(post(1)).toBe(0);
  });

  it('cancels what was not sent at once, and the rest after the grace', async () => {
    const clock = new FakeClock();
    const peer = await start((socket) => void socket.pause(), ONE_LANE, clock);
    const big = pattern(64 * 1024 * 1024, 1);
    const sending = new TestRun([write(big, 1)], 'sending');
    const behind = new TestRun([write(pattern(10, 1), 2)], 'behind');
    const route = peer.initiator.transport.reach(scriptedPeer(peer.port, 2));
    route?.post(sending);
    await peer.accepted();
    await eventually(() => peer.initiator.count('initiatorBytesOut') > 1_000_000);
    expect(route?.post(behind)).toBe(0);
    route?.cancel(sending, 250);
    expect(peer.sink.total).toBe(0);
    clock.advance(251);
    expect(peer.sink.total).toBe(0);
    clock.advance(500);
    await peer.sink.settled(sending, 1);
    const [ended] = peer.sink.of(sending);
    expect(ended).toMatchObject({
      outcome: Outcome.canceled,
      aftermath: { destination: 'unknown' },
    });
  });

  it('is closed once when a peer resets the lane that is given up', async () => {
    const clock = new FakeClock();
    const peer = await start(
      (socket) => {
        socket.resume();
        socket.on('end', () => socket.resetAndDestroy());
      },
      ONE_LANE,
      clock,
    );
    const posted = new TestRun([write(pattern(10, 1), 1)]);
    const route = peer.route();
    route.post(posted);
    await eventually(() => peer.initiator.count('initiatorBytesOut') > 0);
    route.cancel(posted, 10);
    clock.advance(11);
    await peer.sink.settled(posted, 1);
    await route.close();
    expect(peer.sink.of(posted).map(at)).toEqual(['quiescent']);
    expect(peer.initiator.count('connectionsOpened')).toBe(1);
    expect(peer.initiator.count('connectionsClosed')).toBe(1);
    expect(peer.initiator.count('retirementsProved')).toBe(1);
  });

  it.each([
    ['replays the neighbours of a run when the peer ends the lane that is given up', true],
    ['fails the neighbours that were sent when the peer does not end it', false],
  ])('%s', async (_what, ends) => {
    const clock = new FakeClock();
    const peer = await start(
      (socket) => {
        socket.resume();
        if (ends) socket.on('end', () => socket.end());
      },
      ONE_LANE,
      clock,
    );
    const route = peer.route();
    const first = new TestRun([write(pattern(10, 1), 1)]);
    const second = new TestRun([read(Buffer.alloc(10), 2), write(pattern(10, 2), 3)]);
    route.post(first);
    route.post(second);
    await eventually(() => peer.initiator.count('initiatorBytesOut') > 0);
    route.cancel(first, 10);
    clock.advance(11);
    if (!ends) clock.advance(500);
    await peer.sink.settled(second, 2);
    expect(codes(peer.sink.of(first))).toEqual([Outcome.canceled]);
    const [aftermath, outcome] = ends
      ? (['quiescent', Outcome.replay] as const)
      : (['unknown', Outcome.timeout] as const);
    expect(peer.sink.of(first).map(at)).toEqual([aftermath]);
    expect(codes(peer.sink.of(second))).toEqual([Outcome.replay, outcome]);
    expect(peer.sink.of(second).map(at)).toEqual(['untouched', aftermath]);
    expect(peer.initiator.count('retirements')).toBe(1);
    expect(peer.initiator.count('retirementsProved')).toBe(ends ? 1 : 0);
    expect(peer.initiator.count('proofsMissed')).toBe(ends ? 0 : 1);
  });

  it('lets a responsive peer finish within the grace', async () => {
    const clock = new FakeClock();
    const peer = await start(() => undefined, ONE_LANE, clock);
    const posted = new TestRun([write(pattern(10, 1), 1)]);
    const route = peer.route();
    route.post(posted);
    const socket = await peer.accepted();
    await eventually(() => peer.initiator.count('initiatorBytesOut') > 0);
    route.cancel(posted, 100);
    socket.write(STATUS_OK);
    await peer.sink.settled(posted, 1);
    expect(peer.sink.codesOf(posted)).toEqual([Outcome.ok]);
    clock.advance(200);
    expect(peer.initiator.count('connectionsClosed')).toBe(0);
  });

  it('ends everything as canceled when it is closed', async () => {
    const peer = await start(() => undefined);
    const route = peer.route();
    const posted = new TestRun([write(pattern(10, 1), 1), read(Buffer.alloc(5), 2)]);
    route.post(posted);
    await peer.accepted();
    await route.close();
    expect(peer.sink.codesOf(posted)).toEqual([Outcome.canceled, Outcome.canceled]);
    expect(peer.sink.of(posted)[0]?.error).toMatchObject({ code: 'ERR_TE_CLOSED' });
  });
});

describe('local memory of a lane', () => {
  it('fails only the slice whose memory is gone', async () => {
    const peer = await start((socket) => acknowledge(socket, 10));
    const gone = new ArrayBuffer(10);
    const store = new BufferStore(gone);
    structuredClone(gone, { transfer: [gone] });
    const far: ByteStore = { length: 10, readInto: () => undefined, writeFrom: () => undefined };
    const ended = await run(
      peer,
      write(pattern(10, 1), 1),
      { opcode: 1, local: store, length: 10, address: 2 },
      { opcode: 0, local: far, length: 10, address: 2 },
      write(pattern(10, 2), 3),
    );
    expect(codes(ended)).toEqual([Outcome.ok, Outcome.localFault, Outcome.localFault, Outcome.ok]);
    expect(ended[1]?.error).toMatchObject({ code: 'ERR_TE_MEMORY' });
  });

  it('ends when the destination of a read goes away under it', async () => {
    const peer = await start((socket) => {
      socket.once('data', () => socket.write(STATUS_OK));
      socket.on('end', () => socket.end());
    });
    const memory = new ArrayBuffer(100);
    const posted = new TestRun([
      { opcode: 0, local: new BufferStore(memory), address: 1 },
      write(pattern(10, 1), 2),
    ]);
    peer.route().post(posted);
    const socket = await peer.accepted();
    await eventually(() => peer.initiator.count('initiatorBytesIn') === 8);
    structuredClone(memory, { transfer: [memory] });
    socket.write(Buffer.alloc(100));
    await peer.sink.settled(posted, 2);
    expect(peer.sink.codesOf(posted)).toEqual([Outcome.localFault, Outcome.replay]);
  });
});
