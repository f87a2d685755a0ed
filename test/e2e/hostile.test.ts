import { describe, expect, it } from 'vitest';
import { cleanupAfterEach } from '../support/cleanup.ts';
import { EngineProcess } from '../support/engine-process.ts';
import { attack, hang, hostileExchanges } from '../support/hostile-exchanges.ts';
import { until } from '../support/waiting.ts';
import { buildControlFrame, buildDataHeader } from '../support/wire-bytes.ts';

const MIB = 1024 * 1024;
const HANGING = 150;
const EXCHANGES = 600;
/** Clients that send a large request all but its last byte. */
const UNFINISHED = 400;
/** Attackers at work at the same time. */
const CROWD = 40;
const SEED = 20_261_120;
/** Longer than every bound of the target for a peer that does not go on. */
const CLOSE_MS = 25_000;
/** What all that may cost at most: far below one frame or payload for each attacker. */
const GROWTH_BYTES = 64 * MIB;
const VICTIM_BYTES = 64 * 1024;
const BLOCK_BYTES = 256 * 1024;

const cleanup = cleanupAfterEach();

describe('hostile peers', () => {
  it('150 hanging clients and 600 bad exchanges: one good peer notices nothing', async () => {
    const target = await EngineProcess.start(cleanup);
    const served = await target.call('register', { length: 2 * MIB, seed: 1 });
    const victim = await target.call('register', { length: VICTIM_BYTES, seed: 2 });
    const good = await EngineProcess.start(cleanup);
    const region = await good.call('register', { length: 2 * BLOCK_BYTES });
    const segment = await good.call('open', { name: target.name });
    const stream = await good.call('startStream', {
      segment: segment.id,
      region: region.id,
      remoteAddress: served.address,
      length: BLOCK_BYTES,
    });
    const rounds = () => good.call('streamRounds', { stream });
    await until(async () => (await rounds()) > 20, CLOSE_MS, 'a stream that runs');
    const before = await target.call('memory');
    const statsBefore = await target.call('stats');

    await hangAll(target, victim.address);
    const exchanges = hostileExchanges(EXCHANGES, SEED, victim);
    expect(exchanges).toHaveLength(EXCHANGES);
    const startedMs = performance.now();
    const roundsBefore = await rounds();
    let peak = 0;
    for (let from = 0; from < exchanges.length; from += CROWD) {
      await Promise.all(
        exchanges
          .slice(from, from + CROWD)
          .map((one) =>
            attack(one.port === 'control' ? target.rpcPort : target.dataPort, one, CLOSE_MS),
          ),
      );
      peak = Math.max(peak, (await target.call('memory')).rss);
      // New peers are let in at any time.
      expect(await good.call('probe', { target: target.name })).toBe(true);
    }
    const took = Math.round(performance.now() - startedMs);
    const roundsDuring = (await rounds()) - roundsBefore;
    const growth = Math.round((peak - before.rss) / MIB);
    console.info(
      `${EXCHANGES} exchanges in ${took} ms, ${roundsDuring} good rounds, +${growth} MiB`,
    );
    expect(roundsDuring).toBeGreaterThan(0);
    expect(peak - before.rss).toBeLessThan(GROWTH_BYTES);

    const result = await good.call('stopStream', { stream });
    expect(result.failures).toEqual([]);
    expect(await target.call('check', { region: served.id, offset: BLOCK_BYTES, seed: 1 })).toBe(
      -1,
    );
    const stats = await target.call('stats');
    const refused = exchanges.filter(({ port }) => port === 'control').length;
    // Some bad documents get a good answer: a document is not looked at where it is not needed.
    expect(stats.controlRejected - statsBefore.controlRejected).toBeGreaterThan(refused / 2);
    const tcp = (name: string) => stats.transports['tcp']?.[name] ?? 0;
    expect(tcp('requestsRefused')).toBeGreaterThan(EXCHANGES / 4);
    expect(tcp('sessionsTruncated')).toBeGreaterThan(0);
    expect(target.running).toBe(true);
    expect(target.stderr).toBe('');
  });

  it('hanging clients are shown out, and nothing of them is left', async () => {
    const target = await EngineProcess.start(cleanup, {
      tcpOptions: { headerTimeoutMs: 500, payloadTimeoutMs: 500 },
    });
    const victim = await target.call('register', { length: VICTIM_BYTES });
    const resources = await target.call('resources');
    const begun = halves(victim.address);
    const sockets = await Promise.all([
      ...begun.data
        .filter((bytes) => bytes.length > 0)
        .map((bytes) => hang(target.dataPort, bytes)),
      ...begun.control.map((bytes) => hang(target.rpcPort, bytes)),
    ]);
    for (const socket of sockets) cleanup(() => socket.destroy());
    const closed = () => sockets.every((socket) => socket.destroyed || socket.readableEnded);
    await until(closed, CLOSE_MS, 'the end of all hanging clients');
    const stats = await target.call('stats');
    expect(stats.controlRejected).toBeGreaterThanOrEqual(begun.control.length - 1);
    expect(stats.transports['tcp']).toMatchObject({ sessionsOpen: 0 });
    expect(stats.transports['tcp']?.['sessionsExpired']).toBeGreaterThanOrEqual(4);
    for (const socket of sockets) socket.destroy();
    const same = async () => (await target.call('resources')).join() === resources.join();
    await until(same, CLOSE_MS, 'the resources from before');
    // Nothing of a WRITE that was never finished keeps the memory.
    await target.call('unregister', { region: victim.id });
  });
});

describe('memory', () => {
  it('is not filled by requests that never end', async () => {
    const target = await EngineProcess.start(cleanup);
    const good = await EngineProcess.start(cleanup);
    const before = await target.call('memory');
    const most = buildControlFrame({ type: 1, text: ' '.repeat(MIB - 2) }).subarray(0, -1);
    const opening = Array.from({ length: UNFINISHED }, () => hang(target.rpcPort, most));
    for (const socket of await Promise.all(opening)) cleanup(() => socket.destroy());
    expect(await good.call('probe', { target: target.name })).toBe(true);
    const { rss } = await target.call('memory');
    console.info(
      `${UNFINISHED} unfinished frames of 1 MiB: +${Math.round((rss - before.rss) / MIB)} MiB`,
    );
    // What requests may hold together is bounded (64 MiB); twice that and some for copies.
    expect(rss - before.rss).toBeLessThan((UNFINISHED / 2) * MIB);
    expect((await target.call('stats')).controlRejected).toBeGreaterThan(0);
  });

  it('is not filled by notifications that nobody takes', async () => {
    const target = await EngineProcess.start(cleanup);
    const before = await target.call('memory');
    const text = `{"name":"flood","notify_msg":"${'x'.repeat(MIB - 100)}"}\n`;
    const bytes = buildControlFrame({ type: 2, text });
    const flood = { what: 'a notification', port: 'control' as const, bytes };
    for (let from = 0; from < 200; from += 10) {
      await Promise.all(Array.from({ length: 10 }, () => attack(target.rpcPort, flood, CLOSE_MS)));
    }
    const { rss } = await target.call('memory');
    console.info(`200 notifications of 1 MiB: +${Math.round((rss - before.rss) / MIB)} MiB`);
    const kept = await target.call('takeNotifications');
    expect(kept.length).toBeGreaterThan(0);
    expect(kept.length).toBeLessThan(100);
    expect((await target.call('stats')).controlRejected).toBe(200 - kept.length);
  });
});

/** Beginnings that a port must not wait for forever. */
function halves(address: bigint): { control: Buffer[]; data: Buffer[] } {
  const frame = buildControlFrame({ type: 2, text: '{"name":"a","notify_msg":"b"}\n' });
  const write = buildDataHeader({ length: BigInt(VICTIM_BYTES), address, opcode: 0x81 });
  return {
    control: [0, 1, 7, 8, 9, frame.length - 1].map((size) => frame.subarray(0, size)),
    data: [
      ...[0, 1, 12, 23, 24].map((size) => write.subarray(0, size)),
      Buffer.concat([write, Buffer.alloc(100)]),
    ],
  };
}

async function hangAll(target: EngineProcess, address: bigint): Promise<void> {
  const { control, data } = halves(address);
  const opening = Array.from({ length: HANGING }, (_, index) => {
    const beginnings = index % 2 === 0 ? control : data;
    const bytes = beginnings[(index >> 1) % beginnings.length] as Buffer;
    return hang(index % 2 === 0 ? target.rpcPort : target.dataPort, bytes);
  });
  for (const socket of await Promise.all(opening)) cleanup(() => socket.destroy());
}
