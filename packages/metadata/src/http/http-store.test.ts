import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net';
import { EngineError } from '@transfer-engine/core/metadata';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { encodeKey } from './http-endpoint.ts';
import { HttpStore, type HttpStoreOptions } from './http-store.ts';

interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

const cleanups: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

type Script = (request: SeenRequest, response: ServerResponse) => void;

async function scripted(script: Script): Promise<{ uri: string; seen: SeenRequest[] }> {
  const seen: SeenRequest[] = [];
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      const entry = { method, url, headers, body: Buffer.concat(chunks).toString() };
      seen.push(entry);
      script(entry, response);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { uri: `http://127.0.0.1:${(server.address() as AddressInfo).port}/metadata`, seen };
}

function open(uri: string, options?: HttpStoreOptions): HttpStore {
  const store = new HttpStore(uri, options);
  cleanups.push(() => store.close());
  return store;
}

async function failure(promise: Promise<unknown>): Promise<EngineError> {
  const thrown: unknown = await promise.then(
    () => 'no error',
    (error: unknown) => error,
  );
  expect(thrown).toBeInstanceOf(EngineError);
  return thrown as EngineError;
}

/** The three kinds of servers in the field, by what they do with keys that exist or do not. */
function fieldServer(kind: 'go' | 'python' | 'c++'): Script {
  const documents = new Map<string, string>();
  return (request, response) => {
    const key = new URL(request.url, 'http://h').searchParams.get('key') ?? '';
    const present = documents.get(key);
    const answer = (status: number, text: string) => response.writeHead(status).end(text);
    if (request.method === 'GET')
      return present === undefined ? answer(404, 'not found') : answer(200, present);
    if (request.method === 'DELETE') {
      documents.delete(key);
      return answer(kind === 'go' || present !== undefined ? 200 : 404, 'deleted');
    }
    const guarded = kind !== 'go' && key.includes('rpc_meta') && present !== undefined;
    if (guarded && (kind === 'python' || present !== request.body))
      return answer(400, 'duplicate rpc_meta key');
    documents.set(key, request.body);
    return answer(200, 'stored');
  };
}

describe('requests', () => {
  it('have the shape of the C++ client', async () => {
    const { uri, seen } = await scripted((_request, response) => response.end('{}'));
    const store = open(uri);
    await store.put('mooncake/ram/10.0.0.7:1 ü~', '{"a":1}');
    await store.get('mooncake/ram/x');
    await store.remove('mooncake/ram/x');
    expect(seen.map(({ method, url, body }) => [method, url, body])).toEqual([
      ['PUT', '/metadata?key=mooncake%2Fram%2F10.0.0.7%3A1%20%C3%BC~', '{"a":1}'],
      ['GET', '/metadata?key=mooncake%2Fram%2Fx', ''],
      ['DELETE', '/metadata?key=mooncake%2Fram%2Fx', ''],
    ]);
    expect(seen[0]?.headers['content-type']).toBe('application/json');
    expect(seen[0]?.headers['content-length']).toBe('7');
    expect(seen[1]?.headers.accept).toBe('*/*');
    expect(seen[1]?.headers['content-type']).toBeUndefined();
    expect(seen[1]?.headers.authorization).toBeUndefined();
  });

  it('keep a query of the URI and send its credentials', async () => {
    const { uri, seen } = await scripted((_request, response) => response.end('{}'));
    const store = open(`${uri.replace('//', '//us%40er:pw@')}?tenant=a`);
    await store.get('k');
    expect(seen[0]?.url).toBe('/metadata?tenant=a&key=k');
    expect(seen[0]?.headers.authorization).toBe(
      `Basic ${Buffer.from('us@er:pw').toString('base64')}`,
    );
  });

  it('encode any key so that it comes back and only unreserved characters stay', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (key) => {
        const encoded = encodeKey(key);
        expect(decodeURIComponent(encoded)).toBe(key);
        expect(encoded).toMatch(/^(?:[A-Za-z0-9\-._~]|%[0-9A-F]{2})*$/);
      }),
    );
    expect(() => encodeKey('\ud800')).toThrow(/ERR_TE_INVALID_ARGUMENT/);
  });

  it('do not go through a proxy of the environment', async () => {
    const before = process.env['http_proxy'];
    process.env['http_proxy'] = 'http://127.0.0.1:1';
    cleanups.push(() => {
      if (before === undefined) delete process.env['http_proxy'];
      else process.env['http_proxy'] = before;
    });
    const { uri } = await scripted((_request, response) => response.end('{"direct":1}'));
    expect(await open(uri).get('k')).toBe('{"direct":1}');
  });
});

describe('against the servers of the field', () => {
  it.each(['go', 'python', 'c++'] as const)('%s: values, absence and removal', async (kind) => {
    const { uri } = await scripted(fieldServer(kind));
    const store = open(uri);
    expect(await store.get('mooncake/ram/a')).toBeUndefined();
    await store.put('mooncake/ram/a', '{"n":1}');
    await store.put('mooncake/ram/a', '{"n":"ü"}');
    expect(await store.get('mooncake/ram/a')).toBe('{"n":"ü"}');
    await store.remove('mooncake/ram/a');
    await store.remove('mooncake/ram/a');
    expect(await store.get('mooncake/ram/a')).toBeUndefined();
  });

  it.each([
    ['go', ['PUT', 'PUT', 'PUT']],
    // Refuses every overwrite: equal values are found by looking, others are replaced.
    ['python', ['PUT', 'PUT', 'GET', 'PUT', 'GET', 'DELETE', 'PUT']],
    ['c++', ['PUT', 'PUT', 'PUT', 'GET', 'DELETE', 'PUT']],
  ] as const)('%s: a stale rpc_meta key is replaced', async (kind, expected) => {
    const { uri, seen } = await scripted(fieldServer(kind));
    const store = open(uri);
    await store.put('mooncake/rpc_meta/a', '{"rpc_port":1}');
    await store.put('mooncake/rpc_meta/a', '{"rpc_port":1}');
    await store.put('mooncake/rpc_meta/a', '{"rpc_port":2}');
    expect(seen.map((request) => request.method)).toEqual(expected);
    expect(await store.get('mooncake/rpc_meta/a')).toBe('{"rpc_port":2}');
  });

  it('replaces nothing when told so, and nothing but rpc_meta keys', async () => {
    const { uri, seen } = await scripted(fieldServer('python'));
    const store = open(uri, { replaceRefused: false });
    await store.put('mooncake/rpc_meta/a', '1');
    expect((await failure(store.put('mooncake/rpc_meta/a', '2'))).details['status']).toBe(400);
    const refusing = await scripted((_request, response) => response.writeHead(400).end());
    expect((await failure(open(refusing.uri).put('mooncake/ram/a', '2'))).code).toBe(
      'ERR_TE_METADATA',
    );
    expect(seen).toHaveLength(2);
    expect(refusing.seen).toHaveLength(1);
  });
});

describe('failures', () => {
  it.each([201, 204, 302, 403, 500])('status %i is no success', async (status) => {
    const { uri } = await scripted((_request, response) =>
      response.writeHead(status, { location: '/other' }).end(status === 204 ? undefined : 'why'),
    );
    const store = open(uri);
    for (const call of [store.get('k'), store.put('k', 'v'), store.remove('k')]) {
      const error = await failure(call);
      expect(error.code).toBe('ERR_TE_METADATA');
      expect(error.details).toMatchObject({ status, key: 'k' });
      expect(error.message).toContain(uri);
    }
  });

  it('a refused connection says where', async () => {
    const server = createTcpServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, 'close');
    const error = await failure(open(`http://127.0.0.1:${port}/metadata`).get('k'));
    expect(error.code).toBe('ERR_TE_METADATA');
    expect(error.message).toContain(`127.0.0.1:${port}`);
    expect(error.message).toContain('ECONNREFUSED');
    expect(error.cause).toBeDefined();
  });

  it('a silent server ends in a timeout, of the store or of the call', async () => {
    const { uri } = await scripted(() => undefined);
    const error = await failure(open(uri, { timeoutMs: 40 }).get('k'));
    expect([error.code, error.name]).toEqual(['ERR_TE_TIMEOUT', 'TimeoutError']);
    expect((await failure(open(uri).put('k', 'v', { timeoutMs: 30 }))).details['timeoutMs']).toBe(
      30,
    );
  });

  it('a call may have any time above 0', async () => {
    const { uri } = await scripted((_request, response) => response.end('{}'));
    const store = open(uri);
    for (const timeoutMs of [2_500.5, Number.POSITIVE_INFINITY])
      expect(await store.get('k', { timeoutMs })).toBe('{}');
    for (const timeoutMs of [0, -1, Number.NaN])
      expect((await failure(store.get('k', { timeoutMs }))).code).toBe('ERR_TE_INVALID_ARGUMENT');
  });

  it('a body that never ends is covered by the deadline', async () => {
    const { uri } = await scripted((_request, response) => {
      response.writeHead(200, { 'content-length': 10 });
      response.write('abc');
    });
    expect((await failure(open(uri, { timeoutMs: 40 }).get('k'))).code).toBe('ERR_TE_TIMEOUT');
  });

  it('an abort rejects with its reason and frees the connection', async () => {
    const controller = new AbortController();
    const { uri } = await scripted((request, response) => {
      if (request.url.endsWith('slow')) controller.abort(new Error('enough'));
      else response.end('fast');
    });
    const store = open(uri, { connections: 1 });
    await expect(store.get('slow', { signal: controller.signal })).rejects.toThrow('enough');
    await expect(store.get('fast', { signal: controller.signal })).rejects.toThrow('enough');
    expect(await store.get('fast')).toBe('fast');
  });

  it('a value over the bound is refused, with and without a declared length', async () => {
    const { uri } = await scripted((request, response) => {
      if (request.url.endsWith('declared')) return response.end('x'.repeat(100));
      response.write('x'.repeat(50));
      return response.end('x'.repeat(50));
    });
    const store = open(uri, { maxValueBytes: 99 });
    for (const key of ['declared', 'chunked'])
      expect((await failure(store.get(key))).message).toContain('larger than 99 bytes');
    expect(await open(uri, { maxValueBytes: 100 }).get('declared')).toHaveLength(100);
  });

  it('an idle connection that the server dropped is replaced without a failure', async () => {
    const sockets: Socket[] = [];
    let answered = 0;
    const server = createTcpServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => undefined);
      let requests = 0;
      socket.on('data', () => {
        requests += 1;
        // The second request of a connection meets a reset, as after an idle time-out.
        if (requests > 1) return socket.resetAndDestroy();
        answered += 1;
        return socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}');
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const { port } = server.address() as AddressInfo;
    const store = open(`http://127.0.0.1:${port}/m`, { connections: 1 });
    expect([await store.get('a'), await store.get('b')]).toEqual(['{}', '{}']);
    expect([answered, sockets.length]).toEqual([2, 2]);
  });

  it('closing ends running calls, and later ones', async () => {
    const opened: HttpStore[] = [];
    const { uri } = await scripted(() => void opened[0]?.close());
    const store = open(uri);
    opened.push(store);
    expect((await failure(store.get('k'))).code).toBe('ERR_TE_CLOSED');
    expect((await failure(store.get('k'))).code).toBe('ERR_TE_CLOSED');
    await store.close();
  });

  it.each([
    { timeoutMs: 0 },
    { connections: 1.5 },
    { maxValueBytes: -1 },
    { connectTimeoutMs: Number.NaN },
  ])('refuses options %j', (options) => {
    expect(() => new HttpStore('http://h/', options)).toThrow(/ERR_TE_INVALID_ARGUMENT/);
  });
});
