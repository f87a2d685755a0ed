import type { Socket } from 'node:net';
import { Outcome, type Route } from '@transfer-engine/core/transport';
import { FakeClock, TestRun, type RecordedOutcome } from '@transfer-engine/core/testing';
import { afterEach, describe, expect, it } from 'vitest';
import {
  CheckedRun,
  eventually,
  extendedPeer,
  Loopback,
  pattern,
  read,
  ScriptedPeer,
  STATUS_OK,
  write,
  type LoopbackOptions,
} from '../testing/loopback.ts';
import type { LaneRoute } from './lane-route.ts';

const ONE_LANE = { lanesPerPeer: 1 };
const MIB = 1024 * 1024;
const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((pair) => pair.close()));
});

async function start(options: LoopbackOptions = {}): Promise<Loopback> {
  const pair = await Loopback.start({ extended: true, initiator: ONE_LANE, ...options });
  open.push(pair);
  return pair;
}

/** A peer that follows a script, and a route to it in framing x1. */
async function script(
  onSocket: (socket: Socket, index: number) => void,
  clock?: FakeClock,
): Promise<{ peer: ScriptedPeer; route: Route }> {
  const peer = await ScriptedPeer.start(onSocket, ONE_LANE, clock === undefined ? {} : { clock });
  open.push(peer);
  const route = peer.initiator.transport.reach(extendedPeer(peer.port)) as Route;
  return { peer, route };
}

/** An answer of framing x1, written without the code under test. */
function answer(code: number, id: number, applied = 0, value = 0, flags = 0): Buffer {
  const bytes = Buffer.alloc(24);
  bytes.writeUInt32LE(code, 0);
  bytes.write('VTCM', 4, 'latin1');
  bytes.writeUInt16LE(id, 8);
  bytes[10] = flags;
  bytes.writeUInt32LE(value, 12);
  bytes.writeBigUInt64LE(BigInt(applied), 16);
  return bytes;
}

const codes = (records: readonly RecordedOutcome[]) => records.map(({ outcome }) => outcome);
const at = ({ aftermath }: RecordedOutcome) => aftermath.destination;
const inFlight = (route: Route) => (route as LaneRoute).inFlightBytes;

describe('a lane of framing x1', () => {
  it('opens with a hello, and does not wait for its answer', async () => {
    let sent = Buffer.alloc(0);
    const { peer, route } = await script((socket) =>
      socket.on('data', (chunk: Buffer) => (sent = Buffer.concat([sent, chunk]))),
    );
    const run = new TestRun([write(pattern(100, 1), 0x1000), read(Buffer.alloc(4), 0x2000)]);
    route.post(run);
    await eventually(() => sent.length === 48 + 24 + 100 + 24);
    expect(sent.subarray(0, 24).toString('hex')).toBe(
      '0000000000000000' + 'efcdab8967452301' + 'fe54455831010000',
    );
    expect(sent.subarray(40, 72).toString('hex')).toBe(
      '0000000000000000' + '6400000000000000' + '0010000000000000' + 'c100010000000000',
    );
    expect(sent.subarray(172).toString('hex')).toBe(
      '0400000000000000' + '0020000000000000' + 'c000020000000000',
    );
    const bytes = [answer(0, 0), answer(0, 1, 100), answer(0, 2), Buffer.from('abcd')];
    peer.sockets[0]?.write(Buffer.concat(bytes));
    await peer.sink.settled(run, 2);
    expect(peer.sink.codesOf(run)).toEqual([Outcome.ok, Outcome.ok]);
    expect(inFlight(route)).toBe(0);
  });

  it.each([
    ['a number out of order', answer(0, 2, 10)],
    ['other bytes than were sent', answer(0, 1, 9)],
    ['a code of no answer', answer(4, 1)],
    ['a checksum error that nobody had asked about', answer(2, 1, 10)],
    ['no magic', Buffer.alloc(24)],
  ])('ends with a peer that answers with %s', async (_what, wrong) => {
    const { peer, route } = await script((socket) => {
      socket.once('data', () => socket.end(Buffer.concat([answer(0, 0), wrong])));
    });
    const run = new TestRun([write(pattern(10, 1), 0x1000)]);
    route.post(run);
    await peer.sink.settled(run, 1);
    expect(peer.sink.of(run)[0]).toMatchObject({
      outcome: Outcome.protocolError,
      error: { code: 'ERR_TE_PROTOCOL' },
    });
  });

  it('goes on behind a refusal: nobody else notices, and no connection is lost', async () => {
    const pair = await start();
    const memory = Buffer.alloc(101 * 1000);
    const region = pair.target.register(memory);
    const slices = Array.from({ length: 101 }, (_, index) =>
      write(pattern(1000, index), index === 50 ? region.end : region.address + index * 1000),
    );
    const { route } = pair;
    const run = await pair.drive(route, slices);
    const ended = pair.sink.of(run);
    expect(ended.filter(({ outcome }) => outcome === Outcome.ok).length).toBe(100);
    expect(ended[50]).toMatchObject({
      outcome: Outcome.rejected,
      error: { code: 'ERR_TE_ADDRESS_REJECTED' },
      aftermath: { destination: 'untouched' },
    });
    for (const index of [0, 49, 51, 100]) {
      const place = memory.subarray(index * 1000, index * 1000 + 1000);
      expect(place.equals(pattern(1000, index))).toBe(true);
    }
    expect(memory.subarray(50_000, 51_000).every((byte) => byte === 0)).toBe(true);
    const reads = await pair.drive(route, [
      read(Buffer.alloc(5), region.end),
      read(Buffer.alloc(5), region.address),
    ]);
    expect(pair.sink.codesOf(reads)).toEqual([Outcome.rejected, Outcome.ok]);
    expect(pair.initiator.count('connectionsOpened')).toBe(1);
    expect(pair.initiator.count('connectionsClosed')).toBe(0);
    expect(inFlight(route)).toBe(0);
  });

  it('ends behind the refusal of a body that is too large to be thrown away', async () => {
    const pair = await start();
    const region = pair.target.register(Buffer.alloc(100));
    const run = await pair.drive(pair.route, [
      write(pattern(9 * MIB, 1), region.address),
      write(pattern(10, 2), region.address),
    ]);
    expect(pair.sink.codesOf(run)).toContain(Outcome.rejected);
    expect(pair.sink.codesOf(run)[0]).toBe(Outcome.rejected);
    expect(pair.sink.of(run).map(at)).not.toContain('unknown');
  });

  it('sends with checksums, and both sides compare', async () => {
    const pair = await start();
    const memory = Buffer.alloc(3 * MIB);
    const region = pair.target.register(memory);
    const source = pattern(3 * MIB, 1);
    const back = Buffer.alloc(3 * MIB);
    const { route } = pair;
    const post = async (run: TestRun) => {
      route.post(run);
      await pair.sink.settled(run, run.size);
      return pair.sink.codesOf(run);
    };
    const writes = new CheckedRun([
      write(source.subarray(0, 5), region.address),
      write(source.subarray(5), region.address + 5),
    ]);
    expect(await post(writes)).toEqual([Outcome.ok, Outcome.ok]);
    expect(memory.equals(source)).toBe(true);
    expect(await post(new CheckedRun([read(back, region.address)]))).toEqual([Outcome.ok]);
    expect(back.equals(source)).toBe(true);
  });

  it('says exactly which bytes are corrupt', async () => {
    const { peer, route } = await script((socket) => {
      socket.once('data', () => {
        const frames = [answer(0, 0), answer(2, 1, 16), answer(0, 2, 0, 0xdead_beef, 1)];
        socket.write(Buffer.concat([...frames, Buffer.alloc(8, 7)]));
      });
    });
    const run = new CheckedRun([write(pattern(16, 1), 0x1000), read(Buffer.alloc(8), 0x2000)]);
    route.post(run);
    await peer.sink.settled(run, 2);
    for (const record of peer.sink.of(run)) {
      expect(record).toMatchObject({
        outcome: Outcome.corrupt,
        error: { code: 'ERR_TE_INTEGRITY' },
        aftermath: { destination: 'quiescent', appliedBytes: 0 },
      });
    }
    expect(peer.sink.of(run)[0]?.error?.message).toContain('[0x1000, 0x1010)');
    expect(peer.sink.of(run)[1]?.error?.message).toContain('[0x2000, 0x2008)');
    expect(peer.initiator.count('initiatorCorrupt')).toBe(2);
  });
});

describe('who does not answer the hello', () => {
  it('an old target behind a new document is served in framing v2 from then on', async () => {
    const pair = await start({ strictTarget: true });
    const memory = Buffer.alloc(1000);
    const region = pair.target.register(memory);
    const route = pair.initiator.transport.reach(extendedPeer(pair.targetPort)) as Route;
    const slices = [write(pattern(1000, 1), region.address), read(Buffer.alloc(9), region.address)];
    const run = await pair.drive(route, slices);
    expect(pair.sink.codesOf(run)).toEqual([Outcome.replay, Outcome.replay]);
    expect(pair.sink.of(run).map(at)).toEqual(['untouched', 'untouched']);
    expect(memory.every((byte) => byte === 0)).toBe(true);
    expect(route.checksums).toBe(false);
    const again = await pair.drive(route, slices);
    expect(pair.sink.codesOf(again)).toEqual([Outcome.ok, Outcome.ok]);
    expect(memory.equals(pattern(1000, 1))).toBe(true);
    expect(pair.initiator.count('extendedFallbacks')).toBe(1);
    expect(pair.initiator.count('connectionsOpened')).toBe(2);
    const checked = new CheckedRun([write(pattern(10, 1), region.address)]);
    route.post(checked);
    await pair.sink.settled(checked, 1);
    expect(pair.sink.codesOf(checked)).toEqual([Outcome.protocolError]);
  });

  it('a peer that closes without a word', async () => {
    const { peer, route } = await script((socket, index) => {
      if (index === 0) socket.once('data', () => socket.end());
      else socket.once('data', () => socket.write(STATUS_OK));
    });
    const first = new TestRun([write(pattern(10, 1), 1)]);
    route.post(first);
    await peer.sink.settled(first, 1);
    expect(peer.sink.codesOf(first)).toEqual([Outcome.replay]);
    const second = new TestRun([write(pattern(10, 1), 1)]);
    route.post(second);
    await peer.sink.settled(second, 1);
    expect(peer.sink.codesOf(second)).toEqual([Outcome.ok]);
  });

  it('a restarted engine serves nothing that was meant for the one before', async () => {
    const pair = await start();
    const memory = Buffer.alloc(100);
    const region = pair.target.register(memory);
    const route = pair.initiator.transport.reach(pair.stalePeer('fedcba9876543210')) as Route;
    const run = await pair.drive(route, [
      write(pattern(100, 1), region.address),
      write(pattern(100, 2), region.address),
    ]);
    for (const record of pair.sink.of(run)) {
      expect(record).toMatchObject({
        outcome: Outcome.peerLost,
        error: { code: 'ERR_TE_PEER_LOST' },
        aftermath: { destination: 'untouched' },
      });
      expect(record.error?.message).toContain('restarted');
    }
    expect(memory.every((byte) => byte === 0)).toBe(true);
    expect(pair.target.count('staleHellos')).toBe(1);
    expect(inFlight(route)).toBe(0);
  });
});

describe('giving up a lane of framing x1', () => {
  it('tells exactly how far a write came, and serves its neighbours', async () => {
    const pair = await start();
    const memory = Buffer.alloc(64 * MIB);
    const region = pair.target.register(memory);
    const kept = Buffer.alloc(100_000);
    const other = pair.target.register(kept);
    const source = pattern(64 * MIB, 1);
    const { route } = pair;
    const big = new TestRun([write(source, region.address)], 'big');
    route.post(big);
    await eventually(() => pair.target.count('targetBytesIn') > 3 * MIB);
    route.cancel(big, 0);
    await pair.sink.settled(big, 1);
    const [ended] = pair.sink.of(big);
    const applied = ended?.aftermath.appliedBytes ?? -1;
    expect(ended?.outcome).toBe(Outcome.canceled);
    expect(ended?.aftermath.destination).toBe('quiescent');
    expect(applied).toBeGreaterThan(0);
    expect(memory.subarray(0, applied).equals(source.subarray(0, applied))).toBe(true);
    const rest = Buffer.from(memory.subarray(applied));
    expect(rest.every((byte) => byte === 0)).toBe(true);
    expect(pair.initiator.count('abortsAnswered')).toBe(1);
    expect(pair.target.count('abortsServed')).toBe(1);
    const after = await pair.drive(route, [write(pattern(100_000, 2), other.address)]);
    expect(pair.sink.codesOf(after)).toEqual([Outcome.ok]);
    expect(memory.subarray(applied).equals(rest)).toBe(true);
    expect(inFlight(route)).toBe(0);
    await eventually(() => pair.target.count('sessionsOpen') === 1);
  });

  it('settles cancels while neighbours go on, and nothing fails', async () => {
    const pair = await start({ initiator: { lanesPerPeer: 2 } });
    const memory = Buffer.alloc(40 * MIB);
    const region = pair.target.register(memory);
    const { route } = pair;
    const source = pattern(MIB, 3);
    for (let round = 0; round < 20; round += 1) {
      const slices = (half: number) =>
        Array.from({ length: 20 }, (_, index) =>
          write(source, region.address + (half * 20 + index) * MIB),
        );
      const doomed = new TestRun(slices(0), 'doomed');
      route.post(doomed);
      const kept = new TestRun(slices(1), 'kept');
      let left = slices(1);
      route.post(kept);
      route.cancel(doomed, round % 3);
      await pair.sink.settled(doomed, doomed.taken);
      expect([Outcome.ok, Outcome.canceled]).toEqual(
        expect.arrayContaining([...new Set(pair.sink.codesOf(doomed))]),
      );
      expect(pair.sink.of(doomed).map(at)).not.toContain('unknown');
      await pair.sink.settled(kept, kept.taken);
      const ended = pair.sink.codesOf(kept);
      left = left.filter((_, index) => ended[index] !== Outcome.ok);
      while (left.length > 0) {
        const run = await pair.drive(route, left);
        const again = pair.sink.codesOf(run);
        expect(again.every((code) => code === Outcome.ok || code === Outcome.replay)).toBe(true);
        left = left.filter((_, index) => again[index] !== Outcome.ok);
      }
      for (let index = 20; index < 40; index += 1) {
        expect(memory.subarray(index * MIB, (index + 1) * MIB).equals(source)).toBe(true);
      }
      memory.fill(0);
    }
    expect(inFlight(route)).toBe(0);
    expect(pair.initiator.count('proofsMissed')).toBe(0);
  });

  it('replays the neighbours of what was canceled, untouched', async () => {
    const pair = await start({ initiator: { lanesPerPeer: 1, laneBytes: 2 ** 40 } });
    const memory = Buffer.alloc(64 * MIB);
    const region = pair.target.register(memory);
    const kept = pair.target.register(Buffer.alloc(100_000));
    const { route } = pair;
    const big = new TestRun([write(pattern(64 * MIB, 1), region.address)], 'big');
    const behind = new TestRun(
      Array.from({ length: 10 }, (_, index) =>
        write(pattern(10_000, index), kept.address + index * 10_000),
      ),
      'behind',
    );
    route.post(big);
    route.post(behind);
    await eventually(() => pair.target.count('targetBytesIn') > MIB);
    route.cancel(big, 0);
    await pair.sink.settled(behind, 10);
    expect(pair.sink.codesOf(big)).toEqual([Outcome.canceled]);
    expect(new Set(pair.sink.codesOf(behind))).toEqual(new Set([Outcome.replay]));
    expect(new Set(pair.sink.of(behind).map(at))).toEqual(new Set(['untouched']));
  });

  it('counts what the target has served, though the answers were lost on the way', async () => {
    const { peer, route } = await script((socket, index) => {
      socket.once('data', () => {
        // The first two are served and the third is half way, says the answer to the abort.
        if (index === 0) socket.write(answer(0, 0));
        else socket.end(answer(4, 3, 7, 2, 3));
      });
    });
    const unwanted = new TestRun([0, 1, 2, 3].map((seed) => write(pattern(10, seed), seed)));
    const neighbour = new TestRun([write(pattern(10, 9), 9)]);
    route.post(unwanted);
    route.post(neighbour);
    await eventually(() => peer.initiator.count('initiatorBytesIn') === 24);
    route.cancel(unwanted, 0);
    await peer.sink.settled(neighbour, 1);
    const { ok, canceled, replay } = Outcome;
    expect(peer.sink.codesOf(unwanted)).toEqual([ok, ok, canceled, canceled]);
    expect(peer.sink.of(unwanted).map(({ aftermath }) => aftermath)).toEqual([
      { destination: 'quiescent' },
      { destination: 'quiescent' },
      { destination: 'quiescent', appliedBytes: 7 },
      { destination: 'untouched' },
    ]);
    expect(peer.sink.of(neighbour)[0]).toMatchObject({
      outcome: replay,
      aftermath: { destination: 'untouched' },
    });
  });

  it('says unknown when the peer is silent, within its bound', async () => {
    const clock = new FakeClock();
    const { peer, route } = await script((socket, index) => {
      if (index === 0) socket.once('data', () => socket.write(answer(0, 0)));
    }, clock);
    const unwanted = new TestRun([write(pattern(10, 1), 1)]);
    const neighbour = new TestRun([write(pattern(10, 2), 2), read(Buffer.alloc(5), 3)]);
    route.post(unwanted);
    route.post(neighbour);
    await eventually(() => peer.initiator.count('initiatorBytesIn') === 24);
    route.cancel(unwanted, 100);
    clock.advance(5);
    await eventually(() => peer.sockets.length === 2);
    expect(peer.sink.total).toBe(0);
    clock.advance(95);
    await peer.sink.settled(neighbour, 2);
    expect(codes(peer.sink.of(unwanted))).toEqual([Outcome.canceled]);
    expect(peer.sink.of(unwanted).map(at)).toEqual(['unknown']);
    expect(codes(peer.sink.of(neighbour))).toEqual([Outcome.timeout, Outcome.replay]);
    expect(peer.sink.of(neighbour).map(at)).toEqual(['unknown', 'untouched']);
    expect(peer.initiator.count('proofsMissed')).toBe(1);
    expect(inFlight(route)).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });

  it('asks again when the abort was faster than its connection', async () => {
    const { peer, route } = await script((socket, index) => {
      if (index === 1) socket.once('data', () => socket.end(answer(1, 0)));
      if (index === 2) socket.once('data', () => socket.end(answer(4, 1, 4, 0, 3)));
    });
    const run = new TestRun([write(pattern(10, 1), 1)]);
    route.post(run);
    await eventually(() => peer.initiator.count('initiatorBytesOut') > 0);
    route.cancel(run, 0);
    await peer.sink.settled(run, 1);
    expect(peer.sink.of(run)[0]?.aftermath).toEqual({ destination: 'quiescent', appliedBytes: 4 });
    expect(peer.initiator.count('abortsSent')).toBe(2);
  });

  it('proves a deadline and a close, too', async () => {
    const clock = new FakeClock();
    const script2 = (socket: Socket, index: number) => {
      if (index % 2 === 1) socket.once('data', () => socket.end(answer(4, 1, 3, 0, 3)));
    };
    const { peer, route } = await script(script2, clock);
    const late = new TestRun([write(pattern(10, 1), 1)]);
    route.post(late);
    await eventually(() => peer.initiator.count('initiatorBytesOut') > 0);
    clock.advance(30_001);
    await peer.sink.settled(late, 1);
    expect(peer.sink.of(late)[0]).toMatchObject({
      outcome: Outcome.timeout,
      aftermath: { destination: 'quiescent', appliedBytes: 3 },
    });
    const closed = new TestRun([write(pattern(10, 1), 1)]);
    const sent = peer.initiator.count('initiatorBytesOut');
    route.post(closed);
    await eventually(() => peer.initiator.count('initiatorBytesOut') > sent);
    await route.close();
    expect(peer.sink.of(closed)[0]).toMatchObject({
      outcome: Outcome.canceled,
      aftermath: { destination: 'quiescent', appliedBytes: 3 },
    });
  });
});

/**
 * A foreign peer of framing v2: one request after the other, read in blocks of 64 KiB, nothing
 * behind the end of the stream. Holds back while `held` says so.
 */
function serveSerially(socket: Socket, memory: Buffer, held: () => boolean): void {
  let have = Buffer.alloc(0);
  let left = 0;
  let to = 0;
  const step = () => {
    if (held()) {
      setImmediate(step);
      return;
    }
    const block = socket.read(Math.min(65_536, socket.readableLength)) as Buffer | null;
    if (block === null) return;
    have = Buffer.concat([have, block]);
    while (left > 0 ? have.length > 0 : have.length >= 24) {
      if (left === 0) {
        left = Number(have.readBigUInt64LE(0));
        to = Number(have.readBigUInt64LE(8));
        have = have.subarray(24);
      }
      const count = Math.min(left, have.length);
      have.copy(memory, to, 0, count);
      to += count;
      left -= count;
      have = have.subarray(count);
      if (left === 0) socket.write(STATUS_OK);
    }
    setImmediate(step);
  };
  socket.on('readable', step);
  socket.on('end', () => socket.end());
}

describe('giving up a lane towards an old peer', () => {
  it('a foreign peer proves that it is at rest by its end; neighbours are replayed', async () => {
    const memory = Buffer.alloc(66 * MIB);
    let held = true;
    const peer = await ScriptedPeer.start((socket) => serveSerially(socket, memory, () => held), {
      ...ONE_LANE,
      laneBytes: 80 * MIB,
    });
    open.push(peer);
    const route = peer.route();
    const source = pattern(64 * MIB, 1);
    const doomed = new TestRun([write(source, 0)], 'doomed');
    const places = Array.from({ length: 50 }, (_, index) =>
      write(pattern(10_000, index), 65 * MIB + index * 10_000),
    );
    const neighbour = new TestRun(places, 'neighbour');
    route.post(doomed);
    route.post(neighbour);
    await eventually(() => peer.initiator.count('initiatorBytesOut') > 0);
    route.cancel(doomed, 0);
    expect(peer.sink.total).toBe(0);
    held = false;
    await peer.sink.settled(neighbour, 50);
    expect(peer.sink.codesOf(doomed)).toEqual([Outcome.canceled]);
    expect(peer.sink.of(doomed).map(at)).toEqual(['quiescent']);
    expect(new Set(peer.sink.codesOf(neighbour))).toEqual(new Set([Outcome.replay]));
    expect(peer.initiator.count('retirementsProved')).toBe(1);
    const frozen = Buffer.from(memory.subarray(0, 65 * MIB));
    const again = new TestRun(places, 'again');
    route.post(again);
    await peer.sink.settled(again, 50);
    expect(new Set(peer.sink.codesOf(again))).toEqual(new Set([Outcome.ok]));
    expect(memory.subarray(0, 65 * MIB).equals(frozen)).toBe(true);
    expect(memory.subarray(65 * MIB, 65 * MIB + 10_000).equals(pattern(10_000, 0))).toBe(true);
  });

  it('is proved quiet by the end of its stream; neighbours are served on a new one', async () => {
    const pair = await start({ strictTarget: true });
    const memory = Buffer.alloc(64 * MIB);
    const region = pair.target.register(memory);
    const kept = pair.target.register(Buffer.alloc(10_000));
    const { route } = pair;
    const big = new TestRun([write(pattern(64 * MIB, 1), region.address)], 'big');
    route.post(big);
    await eventually(() => pair.target.count('targetBytesIn') > MIB);
    route.cancel(big, 0);
    await pair.sink.settled(big, 1);
    expect(pair.sink.of(big)[0]).toMatchObject({
      outcome: Outcome.canceled,
      aftermath: { destination: 'quiescent' },
    });
    const frozen = Buffer.from(memory);
    const after = await pair.drive(route, [write(pattern(10_000, 2), kept.address)]);
    expect(pair.sink.codesOf(after)).toEqual([Outcome.ok]);
    expect(memory.equals(frozen)).toBe(true);
    expect(pair.initiator.count('retirementsProved')).toBe(1);
    expect(pair.initiator.count('abortsSent')).toBe(0);
  });
});
