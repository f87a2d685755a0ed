import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { EngineError } from '../base/errors.ts';
import { silentLogger, type Logger } from '../base/logger.ts';
import { seededRandom } from '../base/random.ts';
import { FakeClock } from '../testing/fake-clock.ts';
import { emptyHandshake, encodeHandshake } from '../wire/handshake-document.ts';
import { FrameType, encodeFrame, encodeLegacyFrame } from '../wire/handshake-frame.ts';
import { createControlHandler, type ControlHandlerDeps } from './control-handlers.ts';
import { ControlClient } from './control-client.ts';
import { ControlServer, type ControlServerOptions } from './control-server.ts';
import type { NotifyDocument } from '../wire/index.ts';
import { NotifyInbox } from './notify-inbox.ts';
import { ReceivedIds } from './received-ids.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Fixture {
  readonly server: ControlServer;
  readonly port: number;
  readonly inbox: NotifyInbox<NotifyDocument>;
}

async function start(
  options: Partial<ControlServerOptions> = {},
  deps: Partial<ControlHandlerDeps> = {},
): Promise<Fixture> {
  const inbox = new NotifyInbox<NotifyDocument>({ items: 1_000, characters: 1_000_000 });
  const handle = createControlHandler({
    ownDocument: () => '{"name":"own"}',
    inbox,
    received: new ReceivedIds(),
    ...deps,
  });
  const server = new ControlServer({ bindHost: '127.0.0.1', handle, closeGraceMs: 20, ...options });
  cleanups.push(() => server.close());
  return { server, port: await server.listen(), inbox };
}

function dial(port: number, host = '127.0.0.1'): Socket {
  const socket = connect({ port, host, allowHalfOpen: true });
  socket.on('error', () => undefined);
  cleanups.push(() => socket.destroy());
  return socket;
}

/** Sends bytes and collects what comes until the server ends its side. */
async function ask(port: number, bytes: Uint8Array, halfClose = false): Promise<Buffer> {
  const socket = dial(port);
  const received: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => received.push(chunk));
  if (halfClose) socket.end(bytes);
  else socket.write(bytes);
  await new Promise<void>((resolve) => {
    socket.once('end', resolve);
    socket.once('close', () => resolve());
  });
  socket.destroy();
  return Buffer.concat(received);
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise<void>((resolve) => setImmediate(resolve));
}

const hex = (text: string): Buffer => Buffer.from(text.replace(/ /g, ''), 'hex');
const lengthOf = (length: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(length);
  return bytes;
};
const PROBE = hex('04 00 00 00 00 00 00 00 03 7b 7d 0a');
const PROBE_REPLY = encodeFrame(FrameType.probe, '{"status":"success"}');

describe('answers', () => {
  it('a probe, byte for byte, also when it comes in single bytes', async () => {
    const { port, server } = await start();
    expect(await ask(port, PROBE)).toEqual(PROBE_REPLY);
    const socket = dial(port);
    const received: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => received.push(chunk));
    for (const byte of PROBE) {
      socket.write(Uint8Array.of(byte));
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    await once(socket, 'end');
    socket.end();
    expect(Buffer.concat(received)).toEqual(PROBE_REPLY);
    await until(() => server.stats().connections === 0);
    expect(server.stats()).toMatchObject({ answered: 2, rejected: 0 });
  });

  it('a notification that is sent again, once', async () => {
    const { port, inbox } = await start();
    const client = new ControlClient();
    const extras = { instance: 'i1', sequence: 1, segment: 'peer', outcome: 'failed' as const };
    const document = { name: 'a', message: 'b', extras };
    await client.notify('127.0.0.1', port, document);
    await client.notify('127.0.0.1', port, document);
    await client.notify('127.0.0.1', port, { ...document, extras: { ...extras, sequence: 2 } });
    expect(inbox.take()).toEqual([document, { ...document, extras: { ...extras, sequence: 2 } }]);
  });

  it('a notification, which goes to the inbox', async () => {
    const { port, inbox } = await start();
    const request = hex(
      `25 00 00 00 00 00 00 00 02${Buffer.from('{"name":"agent1","notify_msg":"hi"}\n').toString('hex')}`,
    );
    expect(await ask(port, request)).toEqual(
      encodeFrame(FrameType.notify, '{"name":"","notify_msg":"success"}'),
    );
    expect(inbox.take()).toEqual([{ name: 'agent1', message: 'hi' }]);
  });

  it('a notification that fills its frame, and none that is hidden in a string', async () => {
    const inbox = new NotifyInbox({ items: 9, characters: 1_000_000 });
    const { port } = await start({}, { inbox });
    const message = 'é"\\'.repeat(100_000);
    await new ControlClient().notify('127.0.0.1', port, { name: 'n', message });
    expect(inbox.take().map((item) => [item.name, item.message === message])).toEqual([
      ['n', true],
    ]);
    const hidden = encodeFrame(FrameType.notify, JSON.stringify('{"name":"n","notify_msg":"m"}'));
    expect((await ask(port, hidden)).toString()).toContain('"notify_msg":""');
    expect(inbox.size).toBe(0);
  });

  it('tolerates what C++ tolerates in requests of usual length, and no more in long ones', async () => {
    const { port, server } = await start();
    const request = (padding: number) =>
      encodeFrame(FrameType.metadata, `{"a":[1,],/* c */}${' '.repeat(padding)}`);
    expect(await ask(port, request(0))).toHaveLength(24);
    expect(await ask(port, request(20_000))).toHaveLength(0);
    expect(server.stats().rejections).toEqual({ 'malformed-json': 1 });
  });

  it('the own document, whatever JSON is sent for it', async () => {
    const { port } = await start();
    for (const json of ['{"name":"peer"}', 'null', '[1]', '{"buffers":7}'])
      expect(await ask(port, encodeFrame(FrameType.metadata, json))).toEqual(
        encodeFrame(FrameType.metadata, '{"name":"own"}'),
      );
  });

  it('an empty object when there is no document or it cannot be made', async () => {
    const none = await start({}, { ownDocument: () => undefined });
    const failing = await start(
      {},
      {
        ownDocument: () => {
          throw new Error('no');
        },
      },
    );
    for (const { port } of [none, failing])
      expect(await ask(port, encodeFrame(FrameType.metadata, '{}'))).toEqual(
        encodeFrame(FrameType.metadata, '{}'),
      );
    expect(failing.server.stats().rejections).toEqual({ refused: 1 });
  });

  it('a half-closed client, and one that sends more than its request', async () => {
    const { port } = await start();
    expect(await ask(port, PROBE, true)).toEqual(PROBE_REPLY);
    expect(await ask(port, Buffer.concat([PROBE, PROBE, Buffer.alloc(100_000)]))).toEqual(
      PROBE_REPLY,
    );
  });

  it('a client that half-closed long before the answer is ready', async () => {
    let release: (() => void) | undefined;
    const handle = () =>
      new Promise<{ json: string }>((resolve) => {
        release = () => resolve({ json: '{"status":"success"}' });
      });
    const { port } = await start({ handle });
    const answer = ask(port, PROBE, true);
    await until(() => release !== undefined);
    // Turns in which a server that gives up on a half-closed client would have closed.
    for (let turns = 0; turns < 50; turns += 1)
      await new Promise<void>((resolve) => setImmediate(resolve));
    release?.();
    expect(await answer).toEqual(PROBE_REPLY);
  });

  it('frames of the protocol before types in their own form', async () => {
    const { port } = await start();
    const json = encodeHandshake({ ...emptyHandshake(), localNicPath: 'a@b' });
    expect(await ask(port, encodeLegacyFrame(json))).toEqual(
      encodeLegacyFrame(encodeHandshake(emptyHandshake())),
    );
  });

  it('connection handshakes from the hook', async () => {
    const { port } = await start(
      {},
      {
        acceptHandshake: (request) =>
          Promise.resolve({
            ...emptyHandshake(),
            queuePairs: request.queuePairs.map((n) => n + 1),
          }),
      },
    );
    const request = { ...emptyHandshake(), queuePairs: [1, 2] };
    const reply = await new ControlClient().handshake('127.0.0.1', port, request);
    expect(reply.queuePairs).toEqual([2, 3]);
  });
});

describe('refusals', () => {
  it('of the hook carry its message, in an object', async () => {
    const { port, server } = await start(
      {},
      { acceptHandshake: () => Promise.reject(new Error('no route \ud800')) },
    );
    const answer = await ask(port, encodeFrame(FrameType.connection, '{}'));
    expect(JSON.parse(answer.subarray(9).toString())).toMatchObject({
      qp_num: [],
      reply_msg: expect.stringContaining('no route') as string,
    });
    await expect(
      new ControlClient().handshake('127.0.0.1', port, emptyHandshake()),
    ).rejects.toMatchObject({ code: 'ERR_TE_REJECT_HANDSHAKE' });
    expect(server.stats().rejections).toEqual({ refused: 2 });
  });

  it.each(['[1]', '{"qp_num":["x"]}', '{"qp_num":[-1]}', '{"local_nic_path":[1]}'])(
    'of the handshake %s name what is wrong',
    async (json) => {
      const { port } = await start();
      const answer = await ask(port, encodeFrame(FrameType.connection, json));
      const { reply_msg: message } = JSON.parse(answer.subarray(9).toString()) as {
        reply_msg: string;
      };
      expect(message).toContain('ERR_TE_PROTOCOL');
    },
  );

  it.each(['[]', '{"name":{}}', '7'])('of the notification %s are seen by C++', async (json) => {
    const { port, inbox } = await start();
    expect(await ask(port, encodeFrame(FrameType.notify, json))).toEqual(
      encodeFrame(FrameType.notify, '{"name":"","notify_msg":""}'),
    );
    expect(inbox.size).toBe(0);
  });

  it('of a full inbox are seen, and end when there is room', async () => {
    const inbox = new NotifyInbox({ items: 1, characters: 100 });
    const { port, server } = await start({}, { inbox });
    const client = new ControlClient();
    const send = () => client.notify('127.0.0.1', port, { name: 'n', message: 'm' });
    await send();
    await expect(send()).rejects.toMatchObject({ code: 'ERR_TE_METADATA' });
    expect(server.stats().rejections).toEqual({ refused: 1 });
    inbox.take();
    await send();
  });
});

const HOSTILE: readonly (readonly [string, Buffer, string])[] = [
  ['L = 0', lengthOf(0n), 'malformed-frame'],
  ['L above the bound', lengthOf(1_048_577n), 'too-large'],
  ['L of 2^64 - 1', lengthOf(0xffff_ffff_ffff_ffffn), 'too-large'],
  ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\nHost: h\r\n\r\n'), 'too-large'],
  ['a TLS hello', hex('16 03 01 02 00 01 00 01 fc 03 03 00 00'), 'too-large'],
  ['type 0xff', Buffer.concat([lengthOf(3n), hex('ff 7b 7d')]), 'malformed-frame'],
  ['type 4', Buffer.concat([lengthOf(3n), hex('04 7b 7d')]), 'malformed-json'],
  ['text that is no JSON', encodeFrame(FrameType.probe, '{nope'), 'malformed-json'],
  ['an empty text', Buffer.concat([lengthOf(1n), hex('02')]), 'malformed-json'],
  ['a handshake that is no JSON', encodeFrame(FrameType.connection, 'x'), 'malformed-json'],
  ['a document that is no JSON', encodeFrame(FrameType.metadata, '{"a":'), 'malformed-json'],
  ['nesting without end', encodeFrame(FrameType.metadata, '['.repeat(100_000)), 'malformed-json'],
  [
    'text that is no UTF-8',
    Buffer.concat([lengthOf(5n), hex('03 22 ff fe 22')]),
    'malformed-frame',
  ],
];

describe('bad input', () => {
  it.each(HOSTILE)('%s: closed without an answer, and counted', async (_name, bytes, reason) => {
    const { port, server } = await start();
    expect(await ask(port, bytes)).toHaveLength(0);
    expect(server.stats().rejections).toEqual({ [reason]: 1 });
    expect(await ask(port, PROBE)).toEqual(PROBE_REPLY);
  });

  it('a request that is cut off is counted, a port check is not', async () => {
    const { port, server } = await start();
    expect(await ask(port, PROBE.subarray(0, 10), true)).toHaveLength(0);
    expect(server.stats().rejections).toEqual({ truncated: 1 });
    expect(await ask(port, Buffer.alloc(0), true)).toHaveLength(0);
    expect(server.stats().rejected).toBe(1);
  });

  it('a reset in the middle of a request, and one instead of taking the answer', async () => {
    const { port, server } = await start();
    const socket = dial(port);
    socket.write(PROBE.subarray(0, 10));
    await until(() => server.stats().connections === 1);
    socket.resetAndDestroy();
    await until(() => server.stats().connections === 0);
    const other = dial(port);
    await once(other, 'connect');
    other.write(PROBE);
    other.resetAndDestroy();
    await until(() => server.stats().connections === 0);
    expect(await ask(port, PROBE)).toEqual(PROBE_REPLY);
  });

  it('single bytes do not extend the time for a request', async () => {
    const clock = new FakeClock();
    const { port, server } = await start({ clock, requestTimeoutMs: 5_000 });
    const socket = dial(port);
    let closed = false;
    socket.once('close', () => (closed = true));
    socket.once('end', () => socket.destroy());
    await until(() => server.stats().connections === 1);
    for (const byte of PROBE.subarray(0, 9)) {
      socket.write(Uint8Array.of(byte));
      await new Promise<void>((resolve) => setImmediate(resolve));
      clock.advance(550);
    }
    expect(server.stats().rejected).toBe(0);
    clock.advance(50);
    await until(() => closed);
    expect(server.stats().rejections).toEqual({ slow: 1 });
    expect(clock.pendingTimers).toBe(0);
  });

  it('a handler that never answers', async () => {
    const clock = new FakeClock();
    let asked = 0;
    const handle = () => {
      asked += 1;
      return new Promise<never>(() => undefined);
    };
    const { port, server } = await start({ clock, handle, replyTimeoutMs: 1_000 });
    const answer = ask(port, PROBE);
    await until(() => asked === 1);
    clock.advance(1_000);
    expect(await answer).toHaveLength(0);
    expect(server.stats().rejections).toEqual({ 'reply-timeout': 1 });
  });

  it('a client that does not take its answer', async () => {
    const clock = new FakeClock();
    // More than the system's buffers hold.
    const json = JSON.stringify('x'.repeat(32 * 1024 * 1024));
    let asked = 0;
    const handle = () => {
      asked += 1;
      return Promise.resolve({ json });
    };
    const { port, server } = await start({ clock, handle, replyTimeoutMs: 1_000 });
    const socket = dial(port);
    socket.pause();
    socket.write(PROBE);
    await until(() => asked === 1);
    clock.advance(1_000);
    await until(() => server.stats().connections === 0);
    expect(server.stats()).toMatchObject({ answered: 0, rejections: { 'reply-timeout': 1 } });
  });

  it('a client that keeps its connection after the answer', async () => {
    const clock = new FakeClock();
    const { port, server } = await start({ clock, lingerMs: 5_000 });
    const socket = dial(port);
    socket.resume();
    socket.write(PROBE);
    await once(socket, 'end');
    await until(() => server.stats().answered === 1);
    expect(server.stats().connections).toBe(1);
    clock.advance(5_000);
    await until(() => server.stats().connections === 0);
    expect(server.stats().rejected).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });

  it('more connections than allowed', async () => {
    const { port, server } = await start({ maxConnections: 3 });
    const hanging = [dial(port), dial(port), dial(port)];
    await until(() => server.stats().connections === 3);
    expect(await ask(port, PROBE)).toHaveLength(0);
    expect(server.stats().rejections).toEqual({ 'too-many-connections': 1 });
    hanging[0]?.destroy();
    await until(() => server.stats().connections === 2);
    expect(await ask(port, PROBE)).toEqual(PROBE_REPLY);
  });

  it('requests that together need more memory than allowed', async () => {
    const { port, server } = await start({ maxReceivingBytes: 100_000 });
    const first = dial(port);
    first.write(Buffer.concat([lengthOf(90_001n), hex('03'), Buffer.alloc(80_000, 0x20)]));
    await until(() => server.stats().connections === 1);
    const big = Buffer.concat([lengthOf(90_001n), hex('03'), Buffer.alloc(80_000, 0x20)]);
    expect(await ask(port, big)).toHaveLength(0);
    expect(server.stats().rejections).toEqual({ 'out-of-memory-budget': 1 });
    expect(await ask(port, PROBE)).toEqual(PROBE_REPLY);
    first.destroy();
    await until(() => server.stats().connections === 0);
    expect(await ask(port, encodeFrame(FrameType.probe, `${' '.repeat(80_000)}{}`))).toEqual(
      PROBE_REPLY,
    );
  });

  it('150 hanging clients delay nobody', async () => {
    const { port, server } = await start();
    const hanging = Array.from({ length: 150 }, () => dial(port));
    for (const socket of hanging) socket.write(PROBE.subarray(0, 7));
    await until(() => server.stats().connections === 150);
    const answers = await Promise.all(Array.from({ length: 50 }, () => ask(port, PROBE)));
    expect(answers.every((answer) => answer.equals(PROBE_REPLY))).toBe(true);
    expect(server.stats().rejected).toBe(0);
    for (const socket of hanging) socket.destroy();
    await until(() => server.stats().connections === 0);
    expect(server.stats().rejections).toEqual({ truncated: 150 });
  });

  it('any bytes: an answer or a close, and the next client is served', async () => {
    const { port, server } = await start();
    const garbage = fc.uint8Array({ maxLength: 300 });
    const framed = fc
      .tuple(fc.nat(6), fc.oneof(fc.json(), fc.string()), fc.integer({ min: -3, max: 3 }))
      .map(([type, json, error]) => {
        const bytes = encodeFrame(FrameType.probe, json);
        bytes[8] = type;
        bytes.writeBigUInt64LE(BigInt(Math.max(0, bytes.length - 8 + error)));
        return bytes;
      });
    await fc.assert(
      fc.asyncProperty(fc.oneof(garbage, framed), async (bytes) => {
        const answer = await ask(port, bytes, true);
        if (answer.length > 0) expect(Number(answer.readBigUInt64LE())).toBe(answer.length - 8);
      }),
      { numRuns: 500 },
    );
    expect(await ask(port, PROBE)).toEqual(PROBE_REPLY);
    await until(() => server.stats().connections === 0);
    expect(server.stats().rejections.internal).toBeUndefined();
  });

  it('600 hostile exchanges leave it as it was, and the log short', async () => {
    const logged: object[] = [];
    const logger: Logger = { ...silentLogger, warn: (fields) => logged.push(fields) };
    const { port, server } = await start({ logger });
    for (let round = 0; round < 600; round += 50) {
      const inputs = Array.from(
        { length: 50 },
        (_, index) => HOSTILE[(round + index) % HOSTILE.length],
      );
      const answers = await Promise.all(
        inputs.map((entry) => ask(port, entry?.[1] ?? Buffer.alloc(0))),
      );
      expect(answers.every((answer) => answer.length === 0)).toBe(true);
      expect(await ask(port, PROBE)).toEqual(PROBE_REPLY);
    }
    await until(() => server.stats().connections === 0);
    expect(server.stats()).toMatchObject({ answered: 12, rejected: 600 });
    expect(logged.length).toBeGreaterThan(2);
    expect(logged.length).toBeLessThan(300);
  });

  it('is logged with the number of what was left out', async () => {
    const clock = new FakeClock();
    const logged: object[] = [];
    const logger: Logger = { ...silentLogger, warn: (fields) => logged.push(fields) };
    const { port } = await start({ clock, logger });
    for (let index = 0; index < 4; index += 1) await ask(port, lengthOf(0n));
    clock.advance(1_000);
    await ask(port, lengthOf(0n));
    expect(logged).toMatchObject([
      { reason: 'malformed-frame', count: 1 },
      { reason: 'malformed-frame', count: 5, suppressed: 3 },
    ]);
  });
});

describe('ports and addresses', () => {
  it('listens on both families by default', async () => {
    const handle = createControlHandler({
      ownDocument: () => undefined,
      inbox: new NotifyInbox({ items: 1, characters: 1 }),
      received: new ReceivedIds(),
    });
    const server = new ControlServer({ handle });
    cleanups.push(() => server.close());
    const port = await server.listen();
    expect(server.port).toBe(port);
    expect(server.boundHost).toBe('::');
    const client = new ControlClient();
    for (const host of ['127.0.0.1', '::1', 'localhost']) await client.probe(host, port);
  });

  it('listens on IPv6 alone', async () => {
    const { port } = await start({ bindHost: '::1' });
    await new ControlClient().probe('::1', port);
  });

  it('names a port that is taken', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    cleanups.push(() => taken.close());
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const error = await start({ port }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(EngineError);
    expect(error).toMatchObject({ code: 'ERR_TE_PORT_UNAVAILABLE', details: { port } });
  });

  it('finds the one free port of a range, and says when there is none', async () => {
    const random = seededRandom(7);
    const { port: first } = await start();
    const range = { min: first, max: first + 9 };
    const bound = new Set<number>();
    let error: unknown;
    for (let index = 0; index < 10 && error === undefined; index += 1) {
      const fixture = await start({ port: range, random }).catch((thrown: unknown) => {
        error = thrown;
      });
      if (fixture !== undefined) bound.add(fixture.port);
    }
    for (const port of bound) {
      expect(port).toBeGreaterThan(first);
      expect(port).toBeLessThan(first + 10);
    }
    // Whoever else holds ports here, ten engines do not fit beside the one that has the first.
    expect(error).toMatchObject({
      code: 'ERR_TE_PORT_UNAVAILABLE',
      details: { minPort: range.min, maxPort: range.max },
    });
  });

  it('refuses an address that is not here', async () => {
    await expect(start({ bindHost: '192.0.2.1' })).rejects.toMatchObject({
      code: 'ERR_TE_PORT_UNAVAILABLE',
    });
  });
});

describe('close', () => {
  it('ends hanging connections within its grace time and is idempotent', async () => {
    const { port, server } = await start();
    const socket = dial(port);
    const closed = once(socket, 'close');
    socket.resume();
    socket.once('end', () => socket.destroy());
    await until(() => server.stats().connections === 1);
    await Promise.all([server.close(), server.close(), closed]);
    expect(server.port).toBe(0);
    await expect(server.listen()).rejects.toMatchObject({ code: 'ERR_TE_CLOSED' });
    await expect(new ControlClient().probe('127.0.0.1', port)).rejects.toMatchObject({
      code: 'ERR_TE_CONNECT_FAILED',
    });
  });

  it('lets an exchange in progress finish', async () => {
    let release: (() => void) | undefined;
    const handle = () =>
      new Promise<{ json: string }>((resolve) => {
        release = () => resolve({ json: '{"status":"success"}' });
      });
    const { port, server } = await start({ handle, closeGraceMs: 10_000 });
    const answer = ask(port, PROBE);
    await until(() => release !== undefined);
    const closing = server.close();
    release?.();
    expect(await answer).toEqual(PROBE_REPLY);
    await closing;
  });
});
