import { connect } from 'node:net';
import { createEngine, type Engine, type EngineOptions } from '@transfer-engine/core';
import { createMetadataServer, openStore } from '@transfer-engine/metadata';
import { tcp } from '@transfer-engine/transport-tcp';
import { describe, expect, it } from 'vitest';
import { cleanupAfterEach } from '../support/cleanup.ts';
import { EngineProcess, type HostOptions } from '../support/engine-process.ts';
import { closeServer, freePorts, listenOn } from '../support/free-port.ts';

const LENGTH = 100_000;

const cleanup = cleanupAfterEach();

/** Hosts that an engine may be called by, and how its name is written then. */
const hosts = [
  { host: '127.0.0.1', written: '127.0.0.1' },
  { host: '::1', written: '[::1]' },
  { host: 'localhost', written: 'localhost' },
];

describe('P2P names', () => {
  it.each(hosts)('$host: two processes meet', async ({ written }) => {
    const target = await EngineProcess.start(cleanup, { name: written });
    expect(target.name).toBe(`${written}:${target.rpcPort}`);
    const initiator = await EngineProcess.start(cleanup, { name: written });
    await meet(initiator, target, target.name);
  });

  it.each(hosts)('$host: a port in the name is listened on', async ({ written }) => {
    const port = await freePorts(1);
    const target = await EngineProcess.start(cleanup, { name: `${written}:${port}` });
    expect([target.name, target.rpcPort]).toEqual([`${written}:${port}`, port]);
    const initiator = await EngineProcess.start(cleanup);
    await meet(initiator, target, `${written}:${port}`);
  });

  it('a peer may be opened by another address than it calls itself', async () => {
    const target = await EngineProcess.start(cleanup, { name: 'localhost' });
    const initiator = await EngineProcess.start(cleanup);
    await meet(initiator, target, `127.0.0.1:${target.rpcPort}`);
    const unreachable = await EngineProcess.start(cleanup, {
      name: 'no-such-host.invalid',
      bindHost: '127.0.0.1',
    });
    expect(unreachable.name).toBe(`no-such-host.invalid:${unreachable.rpcPort}`);
    await meet(initiator, unreachable, `127.0.0.1:${unreachable.rpcPort}`);
  });

  it('engines of different families meet', async () => {
    const four = await EngineProcess.start(cleanup, { name: '127.0.0.1' });
    const six = await EngineProcess.start(cleanup, { name: '[::1]' });
    await meet(four, six, six.name);
    await meet(six, four, four.name);
  });
});

describe('listening', () => {
  it('a loopback name is not listened for anywhere else', async () => {
    const engine = await start({ name: '127.0.0.2' });
    const { rpcPort } = engine.address;
    for (const port of [rpcPort, engine.localSegment.tcpDataPort]) {
      expect(await answers('127.0.0.2', port)).toBe(true);
      expect(await answers('127.0.0.1', port)).toBe(false);
    }
  });

  it('bindHost wins over the name', async () => {
    const engine = await start({ name: '127.0.0.1', bindHost: '127.0.0.3' });
    for (const port of [engine.address.rpcPort, engine.localSegment.tcpDataPort]) {
      expect(await answers('127.0.0.3', port)).toBe(true);
      expect(await answers('127.0.0.1', port)).toBe(false);
    }
  });

  it('every interface takes both families', async () => {
    const engine = await start({ name: '127.0.0.1', bindHost: '::' });
    for (const port of [engine.address.rpcPort, engine.localSegment.tcpDataPort]) {
      expect(await answers('127.0.0.1', port)).toBe(true);
      expect(await answers('::1', port)).toBe(true);
    }
  });

  it('an address that this machine does not have', async () => {
    // 192.0.2.0/24 is for documentation: no interface has it.
    await expect(start({ bindHost: '192.0.2.1' })).rejects.toMatchObject({
      code: 'ERR_TE_PORT_UNAVAILABLE',
    });
  });
});

describe('ports', () => {
  it('MC_MIN_RPC_PORT and MC_MAX_RPC_PORT bound both ports', async () => {
    const min = await freePorts(4);
    const environment = { MC_MIN_RPC_PORT: `${min}`, MC_MAX_RPC_PORT: `${min + 3}` };
    const one = await start({ environment });
    const two = await start({ environment });
    const used = [one, two].flatMap((engine) => [
      engine.address.rpcPort,
      engine.localSegment.tcpDataPort,
    ]);
    const range = [0, 1, 2, 3].map((index) => min + index);
    expect(used.sort((a, b) => a - b)).toEqual(range);
    // Every port of the range is taken now.
    const third = start({ environment });
    await expect(third).rejects.toMatchObject({ code: 'ERR_TE_PORT_UNAVAILABLE' });
    await expect(third).rejects.toThrow(`${min}`);
    await one.close();
    const again = await start({ environment });
    expect(range).toContain(again.address.rpcPort);
  });

  it('a port of the name outside of the range is honoured', async () => {
    const min = await freePorts(3);
    const environment = { MC_MIN_RPC_PORT: `${min}`, MC_MAX_RPC_PORT: `${min + 1}` };
    const engine = await start({ name: `127.0.0.1:${min + 2}`, environment });
    expect(engine.address.rpcPort).toBe(min + 2);
    expect([min, min + 1]).toContain(engine.localSegment.tcpDataPort);
  });

  it('a port that is taken: the start fails, and leaves nothing', async () => {
    const port = await freePorts(1);
    const blocker = await listenOn(port);
    cleanup(() => closeServer(blocker));
    const starting = start({ name: `127.0.0.1:${port}` });
    await expect(starting).rejects.toMatchObject({ code: 'ERR_TE_PORT_UNAVAILABLE' });
    await expect(starting).rejects.toThrow(`${port}`);
    await closeServer(blocker);
    const engine = await start({ name: `127.0.0.1:${port}` });
    expect(engine.address.rpcPort).toBe(port);
  });

  it('a port that is taken: nothing is left in the store', async () => {
    const server = await createMetadataServer({ port: 0 });
    cleanup(() => server.close());
    const port = await freePorts(1);
    const blocker = await listenOn(port);
    cleanup(() => closeServer(blocker));
    const metadata = await openStore(server.url);
    const starting = start({ metadata, name: 'late', host: '127.0.0.1', rpcPort: port });
    await expect(starting).rejects.toMatchObject({ code: 'ERR_TE_PORT_UNAVAILABLE' });
    expect(server.size).toBe(0);
  });
});

describe('names in an HTTP store', () => {
  it.each(hosts)('a target at $host, the server at $host', async ({ host }) => {
    const server = await createMetadataServer({ port: 0, host });
    cleanup(() => server.close());
    const options: HostOptions = { store: server.url, host };
    const target = await EngineProcess.start(cleanup, { ...options, name: 'the/target' });
    const initiator = await EngineProcess.start(cleanup, { ...options, name: 'initiator' });
    expect(target.name).toBe('the/target');
    await meet(initiator, target, 'the/target');
    await initiator.call('notify', {
      target: 'the/target',
      notification: { name: 'n', message: 'm' },
    });
    expect(await target.call('takeNotifications')).toEqual([
      { name: 'n', message: 'm', from: 'initiator' },
    ]);
    await target.call('close');
    await initiator.call('close');
    expect(server.size).toBe(0);
  });

  it('a port given by the user is published and listened on', async () => {
    const server = await createMetadataServer({ port: 0 });
    cleanup(() => server.close());
    const rpcPort = await freePorts(1);
    const options: HostOptions = { store: server.url, host: '127.0.0.1' };
    const target = await EngineProcess.start(cleanup, { ...options, name: 'target', rpcPort });
    expect(target.rpcPort).toBe(rpcPort);
    const initiator = await EngineProcess.start(cleanup, { ...options, name: 'initiator' });
    await meet(initiator, target, 'target');
    expect(await initiator.call('probe', { target: 'target' })).toBe(true);
  });

  it('MC_TCP_BIND_ADDRESS is what peers dial', async () => {
    const server = await createMetadataServer({ port: 0 });
    cleanup(() => server.close());
    const target = await EngineProcess.start(cleanup, {
      store: server.url,
      name: 'target',
      environment: { MC_TCP_BIND_ADDRESS: '127.0.0.4' },
    });
    const stored = await fetch(`${server.url}?key=mooncake%2Frpc_meta%2Ftarget`);
    expect(await stored.json()).toEqual({
      ip_or_host_name: '127.0.0.4',
      rpc_port: target.rpcPort,
    });
    const options: HostOptions = { store: server.url, host: '127.0.0.1' };
    const initiator = await EngineProcess.start(cleanup, { ...options, name: 'initiator' });
    await meet(initiator, target, 'target');
  });

  it('names that nobody has', async () => {
    const server = await createMetadataServer({ port: 0 });
    cleanup(() => server.close());
    const metadata = await openStore(server.url);
    const engine = await start({ metadata, name: 'alone', host: '127.0.0.1' });
    await expect(engine.openSegment('nobody')).rejects.toMatchObject({
      code: 'ERR_TE_SEGMENT_NOT_FOUND',
    });
    const closed = await listenOn(0);
    const address = closed.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    await closeServer(closed);
    const peer = await start();
    await expect(peer.openSegment(`127.0.0.1:${port}`)).rejects.toMatchObject({
      code: 'ERR_TE_CONNECT_FAILED',
    });
    // A label of more than 63 letters is refused by the resolver itself, without any network.
    await expect(peer.openSegment(`${'x'.repeat(64)}.invalid:1`)).rejects.toMatchObject({
      code: 'ERR_TE_DNS',
    });
  });
});

async function start(options: EngineOptions = {}): Promise<Engine> {
  const engine = await createEngine({ environment: {}, transports: [tcp()], ...options });
  cleanup(() => engine.close());
  return engine;
}

/** Opens the target by the given name, writes, reads back and compares. */
async function meet(initiator: EngineProcess, target: EngineProcess, name: string): Promise<void> {
  const served = await target.call('register', { length: LENGTH, seed: 1 });
  const region = await initiator.call('register', { length: 2 * LENGTH, seed: 2 });
  const segment = await initiator.call('open', { name });
  expect(segment.buffers.at(-1)).toMatchObject({ address: served.address, length: LENGTH });
  const request = {
    segment: segment.id,
    region: region.id,
    remoteAddress: served.address,
    length: LENGTH,
  };
  await initiator.call('transfer', { opcode: 'write', request });
  expect(await target.call('check', { region: served.id, seed: 2 })).toBe(-1);
  await initiator.call('transfer', {
    opcode: 'read',
    request: { ...request, localOffset: LENGTH },
  });
  const back = { region: region.id, seed: 2, offset: LENGTH, at: 0 };
  expect(await initiator.call('check', back)).toBe(-1);
}

/** Whether something listens there. */
function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
