import { once } from 'node:events';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import {
  createMetadataServer,
  type MetadataServer,
  type MetadataServerOptions,
} from './metadata-server.ts';

const servers: MetadataServer[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

async function start(options: MetadataServerOptions = {}): Promise<MetadataServer> {
  const server = await createMetadataServer({ port: 0, closeGraceMs: 50, ...options });
  servers.push(server);
  return server;
}

async function call(
  server: MetadataServer,
  method: string,
  key: string,
  body?: string,
): Promise<[number, string]> {
  const response = await fetch(`${server.url}?key=${encodeURIComponent(key)}`, {
    method,
    ...(body === undefined ? {} : { body }),
  });
  return [response.status, await response.text()];
}

/** Sends text as it is and collects everything until the server closes. */
async function raw(server: MetadataServer, text: string): Promise<string> {
  const socket = connect(server.port, '127.0.0.1');
  let received = '';
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => (received += chunk));
  socket.on('error', () => undefined);
  socket.write(text);
  await once(socket, 'close');
  return received;
}

describe('createMetadataServer', () => {
  it('keeps documents byte for byte', async () => {
    const server = await start();
    expect(server.url).toBe(`http://127.0.0.1:${server.port}/metadata`);
    const text = '{"a":18446744073709551615, "ü":"\\u00e9"}\n';
    expect(await call(server, 'GET', 'mooncake/ram/a')).toEqual([404, 'no such key']);
    expect(await call(server, 'PUT', 'mooncake/ram/a', text)).toEqual([200, 'stored']);
    const response = await fetch(`${server.url}?key=mooncake%2Fram%2Fa`);
    expect(response.headers.get('content-type')).toBe('application/json');
    expect(await response.text()).toBe(text);
    expect(server.size).toBe(1);
    expect(await call(server, 'DELETE', 'mooncake/ram/a')).toEqual([200, 'removed']);
    expect(await call(server, 'DELETE', 'mooncake/ram/a')).toEqual([404, 'no such key']);
    expect(server.size).toBe(0);
  });

  it('answers other requests as the servers of the field', async () => {
    const server = await start({ missingDeleteStatus: 200 });
    const origin = `http://127.0.0.1:${server.port}`;
    const statusOf = async (url: string, method = 'GET') => (await fetch(url, { method })).status;
    expect(await statusOf(`${origin}/health`)).toBe(200);
    expect(await statusOf(`${origin}/health`, 'PUT')).toBe(405);
    expect(await statusOf(`${origin}/other?key=a`)).toBe(404);
    expect(await statusOf(server.url)).toBe(400);
    expect(await statusOf(`${server.url}?key=`)).toBe(400);
    expect(await statusOf(`${server.url}?key=a`, 'POST')).toBe(405);
    expect(await statusOf(`${server.url}?key=a`, 'HEAD')).toBe(405);
    expect(await statusOf(`${server.url}?key=a`, 'DELETE')).toBe(200);
  });

  it.each([
    ['allow', 200, 200, '2'],
    ['refuse', 400, 400, '1'],
    ['refuse-changes', 200, 400, '1'],
  ] as const)('rpc_meta keys, %s', async (rpcMetaOverwrite, same, other, kept) => {
    const server = await start({ rpcMetaOverwrite });
    await call(server, 'PUT', 'mooncake/rpc_meta/a', '1');
    expect((await call(server, 'PUT', 'mooncake/rpc_meta/a', '1'))[0]).toBe(same);
    expect((await call(server, 'PUT', 'mooncake/rpc_meta/a', '2'))[0]).toBe(other);
    expect(await call(server, 'GET', 'mooncake/rpc_meta/a')).toEqual([200, kept]);
    await call(server, 'PUT', 'mooncake/ram/a', '1');
    expect(await call(server, 'PUT', 'mooncake/ram/a', '2')).toEqual([200, 'stored']);
  });

  it('bounds values, keys and their number, and goes on', async () => {
    const server = await start({ maxValueBytes: 10, maxKeys: 2, maxKeyLength: 8 });
    expect((await call(server, 'PUT', 'a', 'x'.repeat(11)))[0]).toBe(413);
    expect((await call(server, 'PUT', 'a', 'x'.repeat(4_000_000)))[0]).toBe(413);
    expect((await call(server, 'PUT', 'a'.repeat(9), 'x'))[0]).toBe(400);
    expect((await call(server, 'PUT', 'a', 'x'.repeat(10)))[0]).toBe(200);
    expect((await call(server, 'PUT', 'b', 'x'))[0]).toBe(200);
    expect((await call(server, 'PUT', 'c', 'x'))[0]).toBe(507);
    expect((await call(server, 'PUT', 'b', 'y'))[0]).toBe(200);
  });

  it('bounds the bytes of all documents', async () => {
    const server = await start({ maxTotalBytes: 12 });
    expect((await call(server, 'PUT', 'a', 'x'.repeat(13)))[0]).toBe(507);
    expect((await call(server, 'PUT', 'a', 'x'.repeat(11)))[0]).toBe(200);
    expect((await call(server, 'PUT', 'b', 'x'))[0]).toBe(507);
    await call(server, 'DELETE', 'a');
    expect((await call(server, 'PUT', 'b', 'x'.repeat(11)))[0]).toBe(200);
  });

  it('refuses a chunked body over the bound', async () => {
    const server = await start({ maxValueBytes: 10 });
    const request = httpRequest(`${server.url}?key=a`, { method: 'PUT' });
    request.write('x'.repeat(8));
    request.end('x'.repeat(8));
    const [response] = (await once(request, 'response')) as [import('node:http').IncomingMessage];
    expect(response.statusCode).toBe(413);
    response.resume();
    expect(server.size).toBe(0);
  });

  it('lets a client that asks first send its body', async () => {
    const server = await start({ maxValueBytes: 10 });
    const head = (length: number) =>
      `PUT /metadata?key=a HTTP/1.1\r\nHost: h\r\nContent-Length: ${length}\r\n` +
      'Expect: 100-continue\r\nConnection: close\r\n\r\n';
    expect(await raw(server, `${head(2)}{}`)).toMatch(
      /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200/,
    );
    expect(await raw(server, head(11))).toMatch(/^HTTP\/1.1 413/);
    expect((await call(server, 'GET', 'a'))[1]).toBe('{}');
  });

  it('does not store what was cut off, and ends slow requests', async () => {
    const server = await start({ requestTimeoutMs: 100 });
    const cut = connect(server.port, '127.0.0.1');
    cut.resume();
    cut.write('PUT /metadata?key=cut HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{"a"');
    cut.end();
    await once(cut, 'close');
    const slow = 'PUT /metadata?key=slow HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{"a"';
    expect(await raw(server, slow)).toMatch(/^HTTP\/1.1 408/);
    expect(await raw(server, 'GET /meta')).toMatch(/^HTTP\/1.1 408/);
    expect(await raw(server, '\x16\x03\x01 what\r\n\r\n')).toMatch(/^HTTP\/1.1 400/);
    expect(server.size).toBe(0);
    expect((await call(server, 'PUT', 'ok', '1'))[0]).toBe(200);
  });

  it('closes within its grace time although a request hangs', async () => {
    const server = await start();
    const hanging = connect(server.port, '127.0.0.1');
    hanging.on('error', () => undefined);
    hanging.write('PUT /metadata?key=a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{');
    await once(hanging, 'connect');
    await call(server, 'GET', 'x');
    const closed = once(hanging, 'close');
    await Promise.all([server.close(), server.close(), closed]);
    await expect(fetch(server.url)).rejects.toThrow();
  });

  it('names a port that is taken, and wrong options', async () => {
    const { port } = await start();
    await expect(createMetadataServer({ port })).rejects.toMatchObject({
      code: 'ERR_TE_PORT_UNAVAILABLE',
      details: { port },
    });
    for (const options of [{ port: -1 }, { path: 'metadata' }, { maxKeys: 0 }])
      await expect(createMetadataServer(options)).rejects.toMatchObject({
        code: 'ERR_TE_INVALID_ARGUMENT',
      });
  });

  it('listens on IPv6', async () => {
    const server = await start({ host: '::1' });
    expect(server.url).toBe(`http://[::1]:${server.port}/metadata`);
    expect(await call(server, 'PUT', 'a', '1')).toEqual([200, 'stored']);
  });
});

describe('what the server offers beyond the servers of the field', () => {
  const authorized = { headers: { authorization: 'Bearer secret' } };

  it('says so in every answer, and lists keys', async () => {
    const server = await start();
    await call(server, 'PUT', 'a/ü', '1');
    await call(server, 'PUT', 'b', '2');
    const response = await fetch(`${server.url}?prefix=a/`);
    expect(await response.json()).toEqual({ keys: ['a/ü'] });
    for (const target of [`${server.url}?key=none`, server.url, `${server.url}?key=b`])
      expect((await fetch(target)).headers.get('te-metadata')).toBe('list, watch, lease');
  });

  it('wants the token for everything but /health', async () => {
    const server = await start({ token: 'secret' });
    const health = new URL('/health', server.url);
    expect((await fetch(health)).status).toBe(200);
    for (const headers of [{}, { authorization: 'Bearer other' }, { authorization: 'secret' }]) {
      for (const target of [`${server.url}?key=a`, `${server.url}?prefix=`, new URL('/x', health)])
        expect((await fetch(target, { headers })).status).toBe(401);
      const put = await fetch(`${server.url}?key=a`, { method: 'PUT', body: '1', headers });
      expect(put.status).toBe(401);
    }
    expect(server.size).toBe(0);
    expect((await fetch(`${server.url}?key=a`, authorized)).status).toBe(404);
    const put = { method: 'PUT', body: '1', ...authorized };
    expect((await fetch(`${server.url}?key=a`, put)).status).toBe(200);
  });

  it('serves so many requests a second to one address', async () => {
    const server = await start({ requestsPerSecond: 5 });
    const responses = await Promise.all(
      Array.from({ length: 30 }, () => fetch(`${server.url}?key=a`)),
    );
    const refused = responses.filter(({ status }) => status === 429);
    expect(refused.length).toBeGreaterThan(10);
    expect(refused.length).toBeLessThan(26);
    expect(refused[0]?.headers.get('retry-after')).toBe('1');
  });

  it.each(['{', '[]', '{"watch":[1]}', '{"lease":"x"}', 'null'])(
    'refuses to POST %s',
    async (body) => {
      const server = await start();
      expect((await fetch(server.url, { method: 'POST', body })).status).toBe(400);
    },
  );

  it.each(['0', '-1', 'x', '1.5', '86400001', ''])(
    'refuses a lease of "%s" ms',
    async (leaseMs) => {
      const server = await start();
      const headers = { 'te-lease': 'id', 'te-lease-ms': leaseMs };
      const put = await fetch(`${server.url}?key=a`, { method: 'PUT', body: '1', headers });
      expect([put.status, server.size]).toEqual([400, 0]);
    },
  );

  it.each([
    { dataFile: '' },
    { token: 'with blank' },
    { requestsPerSecond: 0 },
    { requestsPerSecond: 1.5 },
  ])('refuses options %j', async (options) => {
    await expect(start(options)).rejects.toMatchObject({ code: 'ERR_TE_INVALID_ARGUMENT' });
  });

  it('has its documents after a crash, and lets go of the file when the port is taken', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'transfer-engine-server-'));
    try {
      const dataFile = join(folder, 'documents');
      const first = await start({ dataFile });
      const headers = { 'te-lease': 'id', 'te-lease-ms': '60000' };
      await call(first, 'PUT', 'plain', 'v\n');
      await fetch(`${first.url}?key=leased`, { method: 'PUT', body: 'x', headers });
      await call(first, 'PUT', 'gone', 'x');
      await call(first, 'DELETE', 'gone');
      // What is on the disk while the server runs is what a crash would leave.
      copyFileSync(dataFile, join(folder, 'crashed'));
      const second = await start({ dataFile: join(folder, 'crashed') });
      expect(second.size).toBe(2);
      expect(await call(second, 'GET', 'plain')).toEqual([200, 'v\n']);
      const refresh = { method: 'POST', body: '{"lease":"id","keys":["leased","other"]}' };
      expect(await (await fetch(second.url, refresh)).json()).toEqual({ missing: ['other'] });
      const third = join(folder, 'third');
      await expect(start({ dataFile: third, port: first.port })).rejects.toMatchObject({
        code: 'ERR_TE_PORT_UNAVAILABLE',
      });
      await start({ dataFile: third });
      await expect(start({ dataFile })).rejects.toMatchObject({ code: 'ERR_TE_METADATA' });
    } finally {
      await Promise.all(servers.splice(0).map((server) => server.close()));
      rmSync(folder, { recursive: true });
    }
  });
});
