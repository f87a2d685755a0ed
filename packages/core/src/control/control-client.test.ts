import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { EngineError } from '../base/errors.ts';
import { OwnDocument } from '../metadata/own-document.ts';
import type { SegmentDraft } from '../segment/segment-descriptor.ts';
import { FakeClock } from '../testing/fake-clock.ts';
import { FrameType, encodeFrame, encodeLegacyFrame } from '../wire/handshake-frame.ts';
import { ControlClient } from './control-client.ts';
import { createControlHandler } from './control-handlers.ts';
import { ControlServer } from './control-server.ts';
import { NotifyInbox } from './notify-inbox.ts';
import { ReceivedIds } from './received-ids.ts';
import { PeerDirectory } from './peer-directory.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A peer that reads what it is sent and does what the script says. */
async function scripted(
  script: (socket: Socket, received: Buffer) => void,
  host = '127.0.0.1',
): Promise<{ port: number; sockets: Socket[] }> {
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    let received = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      script(socket, received);
    });
  }).listen(0, host);
  await once(server, 'listening');
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, sockets };
}

async function failure(promise: Promise<unknown>): Promise<EngineError> {
  const thrown: unknown = await promise.then(
    () => 'no error',
    (error: unknown) => error,
  );
  expect(thrown).toBeInstanceOf(EngineError);
  return thrown as EngineError;
}

const PROBE_REPLY = encodeFrame(FrameType.probe, '{"status":"success"}');
const client = new ControlClient({ timeoutMs: 10_000 });
const probe = (port: number) => client.probe('127.0.0.1', port);

describe('exchange', () => {
  it('sends one frame, takes one answer in any pieces and closes at once', async () => {
    let request: Buffer = Buffer.alloc(0);
    const peer = await scripted((socket, received) => {
      request = received;
      for (const byte of PROBE_REPLY) socket.write(Uint8Array.of(byte));
    });
    await probe(peer.port);
    expect(request.toString('hex')).toBe('0400000000000000037b7d0a');
    // The peer keeps its side open and still sees the end.
    const [socket] = peer.sockets;
    if (socket !== undefined && !socket.readableEnded) await once(socket, 'end');
    expect(socket?.readableEnded).toBe(true);
  });

  it('reaches a name that has addresses of both families', async () => {
    const peer = await scripted((socket) => socket.end(PROBE_REPLY));
    await client.probe('localhost', peer.port);
    const other = await scripted((socket) => socket.end(PROBE_REPLY), '::1');
    await client.probe('::1', other.port);
  });

  it.each([
    ['an answer of another type', encodeFrame(FrameType.notify, '{}'), 'ERR_TE_PROTOCOL'],
    ['an answer without a type', encodeLegacyFrame('{}'), 'ERR_TE_PROTOCOL'],
    ['a length of 0', Buffer.alloc(8), 'ERR_TE_PROTOCOL'],
    ['an HTTP answer', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'), 'ERR_TE_FRAME_TOO_LARGE'],
    ['text that is no JSON', encodeFrame(FrameType.probe, 'nope'), 'ERR_TE_MALFORMED_JSON'],
    ['half an answer', PROBE_REPLY.subarray(0, 12), 'ERR_TE_PEER_LOST'],
    ['no answer', Buffer.alloc(0), 'ERR_TE_PEER_LOST'],
  ])('%s', async (_name, bytes, code) => {
    const peer = await scripted((socket) => socket.end(bytes));
    const error = await failure(probe(peer.port));
    expect(error.code).toBe(code);
    expect(error.message).toContain(`127.0.0.1:${peer.port}`);
    expect(error.details['peer']).toBe(`127.0.0.1:${peer.port}`);
  });

  it('a reset of the peer', async () => {
    const peer = await scripted((socket) => socket.resetAndDestroy());
    const error = await failure(probe(peer.port));
    expect(error.code).toBe('ERR_TE_PEER_LOST');
    expect(error.cause).toBeInstanceOf(Error);
  });

  it('an answer above the own bound', async () => {
    const peer = await scripted((socket) => socket.end(PROBE_REPLY));
    const options = { maxFrameBytes: 10 };
    const error = await failure(client.probe('127.0.0.1', peer.port, options));
    expect(error.code).toBe('ERR_TE_FRAME_TOO_LARGE');
    expect(error.message).toContain('MC_HANDSHAKE_MAX_LENGTH');
  });

  it('nobody there, and an address that cannot be', async () => {
    const peer = createServer().listen(0, '127.0.0.1');
    await once(peer, 'listening');
    const { port } = peer.address() as AddressInfo;
    peer.close();
    await once(peer, 'close');
    expect((await failure(probe(port))).code).toBe('ERR_TE_CONNECT_FAILED');
    expect((await failure(client.probe('localhost', port))).message).toContain('ECONNREFUSED');
    expect((await failure(probe(0))).code).toBe('ERR_TE_CONNECT_FAILED');
    // A label of more than 63 letters is refused by the resolver itself.
    const name = `${'x'.repeat(64)}.invalid`;
    const error = await failure(client.probe(name, 1));
    expect(error.code).toBe('ERR_TE_DNS');
    expect(error.message).toContain(name);
  });

  it('silence ends at the deadline, before or after the connection stands', async () => {
    const clock = new FakeClock();
    const slow = new ControlClient({ clock, timeoutMs: 1_000, connectTimeoutMs: 300 });
    const peer = await scripted(() => undefined);
    const connecting = failure(slow.probe('127.0.0.1', peer.port));
    clock.advance(300);
    expect((await connecting).message).toMatch(/did not accept a connection within 300 ms/);
    let asked = false;
    const silent = await scripted(() => (asked = true));
    const waiting = failure(slow.probe('127.0.0.1', silent.port));
    while (!asked) await new Promise<void>((resolve) => setImmediate(resolve));
    clock.advance(999);
    clock.advance(1);
    const error = await waiting;
    expect([error.code, error.name]).toEqual(['ERR_TE_TIMEOUT', 'TimeoutError']);
    expect(error.message).toMatch(/did not answer within 1000 ms/);
    expect(clock.pendingTimers).toBe(0);
  });

  it('an abort rejects with its reason and closes the socket', async () => {
    const controller = new AbortController();
    const peer = await scripted(() => controller.abort(new Error('enough')));
    const { signal } = controller;
    await expect(client.probe('127.0.0.1', peer.port, { signal })).rejects.toThrow('enough');
    const [socket] = peer.sockets;
    if (socket !== undefined && !socket.readableEnded) await once(socket, 'end');
    await expect(client.probe('127.0.0.1', peer.port, { signal })).rejects.toThrow('enough');
    const early = new AbortController();
    const connecting = client.probe('localhost', peer.port, { signal: early.signal });
    early.abort(new Error('early'));
    await expect(connecting).rejects.toThrow('early');
    expect(peer.sockets.length).toBeLessThanOrEqual(2);
  });

  it('a thousand failures leave no timer', async () => {
    const clock = new FakeClock();
    const counting = new ControlClient({ clock });
    const peer = await scripted((socket) => socket.destroy());
    for (let round = 0; round < 20; round += 1)
      await Promise.all(
        Array.from({ length: 50 }, async () => failure(counting.probe('127.0.0.1', peer.port))),
      );
    expect(clock.pendingTimers).toBe(0);
  });
});

const draft = (port: number): SegmentDraft => ({
  protocols: ['tcp'],
  tcpDataPort: port,
  tcpProtoVersion: 2,
  devices: [],
  priorityMatrix: {},
  capabilities: [],
  buffers: [
    {
      regionId: 0,
      name: 'ignored',
      address: 0x7f00_0000_1000n,
      length: 4_096,
      remoteKeys: [],
      localKeys: [],
      extras: {},
    },
  ],
});

async function engine(bindHost: string): Promise<{ directory: PeerDirectory; port: number }> {
  const document = new OwnDocument({ identity: { instance: 'i', host: 'h' } });
  const directory = new PeerDirectory({ client, document });
  const handle = createControlHandler({
    ownDocument: () => document.text(),
    inbox: new NotifyInbox({ items: 10, characters: 1_000 }),
    received: new ReceivedIds(),
  });
  const server = new ControlServer({ bindHost, handle });
  cleanups.push(() => server.close());
  return { directory, port: await server.listen() };
}

describe('a server that sends back what it gets', () => {
  it('is taken neither for a peer nor for a receiver', async () => {
    const echo = await scripted((socket, received) => socket.end(received));
    const at = ['127.0.0.1', echo.port] as const;
    const { directory } = await engine('127.0.0.1');
    await directory.publish(draft(9), '127.0.0.1:1');
    for (const ask of [
      () => directory.resolve(`127.0.0.1:${echo.port}`),
      () => client.probe(...at),
      () => client.notify(...at, { name: 'a', message: 'b' }),
    ]) {
      const error = await failure(ask());
      expect(error.code).toBe('ERR_TE_PROTOCOL');
      expect(error.message).toContain('sent back');
    }
  });

  it('is not confused with an engine that says the same', async () => {
    const echo = await scripted((socket, received) => socket.end(received));
    const at = ['127.0.0.1', echo.port] as const;
    await client.notify(...at, { name: '', message: 'success' });
    const own = new ControlClient({ ownPort: echo.port });
    const json = '{"name":"x","protocol":"tcp","tcp_data_port":9,"buffers":[]}';
    expect((await own.fetchSegment(...at, json)).name).toBe('x');
  });
});

describe('PeerDirectory', () => {
  it('asks the engine that the name is the address of', async () => {
    const target = await engine('127.0.0.1');
    const initiator = await engine('127.0.0.1');
    const name = `127.0.0.1:${target.port}`;
    expect((await failure(initiator.directory.resolve(name))).code).toBe(
      'ERR_TE_SEGMENT_NOT_FOUND',
    );
    await target.directory.publish(draft(9), 'localhost:1');
    await initiator.directory.announce();
    const resolved = await initiator.directory.resolve(`/${name}`);
    expect(resolved).toMatchObject({
      host: '127.0.0.1',
      rpcPort: target.port,
      descriptor: {
        name: 'localhost:1',
        protocols: ['tcp'],
        tcpDataPort: 9,
        tcpProtoVersion: 2,
        buffers: [{ name: 'localhost:1', address: 0x7f00_0000_1000n, length: 4_096 }],
        extras: { version: 1, instance: 'i', host: 'h', capabilities: [] },
      },
    });
    await target.directory.publish(() => draft(10), 'localhost:1');
    expect((await initiator.directory.resolve(name)).descriptor.tcpDataPort).toBe(10);
    await target.directory.withdraw();
    expect((await failure(initiator.directory.resolve(name))).code).toBe(
      'ERR_TE_SEGMENT_NOT_FOUND',
    );
  });

  it('understands IPv6 names and host names', async () => {
    const target = await engine('::1');
    await target.directory.publish(draft(9), 'x');
    const { directory } = await engine('::1');
    expect((await directory.resolve(`[::1]:${target.port}`)).host).toBe('::1');
    expect(await directory.locate('[fe80::1%eth0]:5')).toEqual({
      host: 'fe80::1%eth0',
      rpcPort: 5,
    });
    expect(await directory.locate('host')).toEqual({ host: 'host', rpcPort: 12_001 });
    expect((await failure(directory.locate(':5'))).code).toBe('ERR_TE_INVALID_ARGUMENT');
  });

  it.each([
    ['null', 'ERR_TE_SEGMENT_NOT_FOUND'],
    ['{}', 'ERR_TE_SEGMENT_NOT_FOUND'],
    ['{"name":"x","protocol":""}', 'ERR_TE_METADATA'],
    ['{"name":"x","protocol":"tcp","tcp_data_port":"9"}', 'ERR_TE_METADATA'],
    ['[]', 'ERR_TE_METADATA'],
    ['{', 'ERR_TE_MALFORMED_JSON'],
  ])('a peer that answers %s', async (json, code) => {
    const peer = await scripted((socket) => socket.end(encodeFrame(FrameType.metadata, json)));
    const { directory } = await engine('127.0.0.1');
    const error = await failure(directory.resolve(`127.0.0.1:${peer.port}`));
    expect(error.code).toBe(code);
    expect(error.message).toContain(`127.0.0.1:${peer.port}`);
  });

  it('ends what it waits for when it is closed', async () => {
    const { directory } = await engine('127.0.0.1');
    const peer = await scripted(() => void directory.close());
    const name = `127.0.0.1:${peer.port}`;
    expect((await failure(directory.resolve(name))).code).toBe('ERR_TE_CLOSED');
    expect((await failure(directory.resolve(name))).code).toBe('ERR_TE_CLOSED');
  });
});
