import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { createMetadataServer } from '../http-server/metadata-server.ts';
import { HttpStore } from './http-store.ts';

interface HttpMessage {
  /** "PUT /metadata?key=a HTTP/1.1" or "HTTP/1.1 200 OK" */
  readonly start: string;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

interface RecordedRequest {
  readonly raw: string;
  readonly request: HttpMessage;
  readonly rawReply: string;
  readonly reply: HttpMessage;
}

const file = new URL('../../../../test/vectors/te/http-write-notify.json', import.meta.url);

/** The whole life of a C++ initiator with an HTTP store, on one connection. */
const RECORDED = recordedRequests();

function recordedRequests(): RecordedRequest[] {
  const recording = JSON.parse(readFileSync(file, 'utf8')) as {
    connections: { listener: string; messages: { from: string; hex?: string }[] }[];
  };
  const connection = recording.connections.find(({ listener }) => listener === 'metadata-server');
  const messages = (connection?.messages ?? []).filter(({ hex }) => hex !== undefined);
  const texts = messages.map(({ hex = '' }) => Buffer.from(hex, 'hex').toString('latin1'));
  return texts.flatMap((raw, index) => {
    const rawReply = texts[index + 1] ?? '';
    if (messages[index]?.from !== 'opener') return [];
    return [{ raw, request: parse(raw), rawReply, reply: parse(rawReply) }];
  });
}

function parse(raw: string): HttpMessage {
  const end = raw.indexOf('\r\n\r\n');
  const [start = '', ...lines] = raw.slice(0, end).split('\r\n');
  const headers = new Map(
    lines.map((line): [string, string] => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  return { start, headers, body: raw.slice(end + 4) };
}

const statusOf = ({ start }: HttpMessage): number => Number(start.split(' ')[1]);

function keyOf({ start }: HttpMessage): string {
  return new URL(start.split(' ')[1] ?? '', 'http://h').searchParams.get('key') ?? '';
}

/** Reads until the text holds a whole message with a Content-Length, or none. */
async function readMessage(socket: Socket): Promise<string> {
  let text = '';
  for (;;) {
    const end = text.indexOf('\r\n\r\n');
    if (end >= 0) {
      const length = Number(parse(text).headers.get('content-length') ?? 0);
      if (text.length >= end + 4 + length) return text;
    }
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    text += chunk.toString('latin1');
  }
}

describe('the recorded life of a C++ engine with an HTTP store', () => {
  it('has writes, reads, absence and removals', () => {
    expect(
      RECORDED.map(({ request, reply }) => [request.start.split(' ')[0], statusOf(reply)]),
    ).toEqual([
      ['PUT', 200],
      ['GET', 404],
      ['PUT', 200],
      ['PUT', 200],
      ['GET', 200],
      ['GET', 200],
      ['PUT', 200],
      ['DELETE', 200],
      ['DELETE', 200],
    ]);
  });

  it('our store sends the same requests and understands the answers', async () => {
    const seen: HttpMessage[] = [];
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      void (async () => {
        for (const { rawReply } of RECORDED) {
          seen.push(parse(await readMessage(socket)));
          socket.write(rawReply, 'latin1');
        }
      })();
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const store = new HttpStore(`http://127.0.0.1:${port}/metadata`, { connections: 1 });
    for (const { request, reply } of RECORDED) {
      const [method] = request.start.split(' ');
      const key = keyOf(request);
      if (method === 'PUT') await store.put(key, request.body);
      else if (method === 'DELETE') await store.remove(key);
      else expect(await store.get(key)).toBe(statusOf(reply) === 404 ? undefined : reply.body);
    }
    await store.close();
    server.close();
    for (const [index, { request }] of RECORDED.entries()) {
      const own = seen[index];
      expect([own?.start, own?.body]).toEqual([request.start, request.body]);
      for (const name of ['accept', 'content-type', 'content-length'])
        expect([name, own?.headers.get(name)]).toEqual([name, request.headers.get(name)]);
    }
  });

  it('our server gives the same answers to its bytes, in status and documents', async () => {
    const server = await createMetadataServer({ port: 0, closeGraceMs: 50 });
    const store = new HttpStore(server.url);
    for (const { request, reply } of RECORDED)
      if (request.start.startsWith('GET') && statusOf(reply) === 200)
        await store.put(keyOf(request), reply.body);
    const socket = connect(server.port, '127.0.0.1');
    for (const { raw, request, reply } of RECORDED) {
      socket.write(raw, 'latin1');
      const answer = parse(await readMessage(socket));
      expect([request.start, statusOf(answer)]).toEqual([request.start, statusOf(reply)]);
      if (request.start.startsWith('GET') && statusOf(reply) === 200) {
        expect(answer.body).toBe(reply.body);
        expect(answer.headers.get('content-type')).toBe('application/json');
      }
    }
    socket.destroy();
    await store.close();
    await server.close();
  });
});
