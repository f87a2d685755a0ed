import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  EngineError,
  invalidArgument,
  silentLogger,
  type Logger,
} from '@transfer-engine/core/metadata';
import { DocumentTable, type RpcMetaOverwrite } from './document-table.ts';
import { ReceiveBudget, readBody } from './read-body.ts';

export type { RpcMetaOverwrite } from './document-table.ts';

export interface MetadataServerOptions {
  /** Address to listen on. Default "127.0.0.1". */
  readonly host?: string;
  /** Default 8080, as the servers of the field; 0 lets the system choose. */
  readonly port?: number;
  /** Path that holds the documents. Default "/metadata". */
  readonly path?: string;
  /** Default "allow": an engine that comes back after a crash finds its place. */
  readonly rpcMetaOverwrite?: RpcMetaOverwrite;
  /** Status of a DELETE of what is not there. Default 404 (Python, C++); the Go server says 200. */
  readonly missingDeleteStatus?: 200 | 404;
  /** Largest value, in bytes. Default 128 MiB, the largest document that a C++ engine reads. */
  readonly maxValueBytes?: number;
  /** Largest number of keys. Default 1,000,000. */
  readonly maxKeys?: number;
  /** All keys and values together, in bytes. Default 1 GiB. */
  readonly maxTotalBytes?: number;
  /** Longest key, in characters. Default 4,096. */
  readonly maxKeyLength?: number;
  /** Connections at once. Default 4,096. */
  readonly maxConnections?: number;
  /** Time for a request to arrive as a whole, in milliseconds. Default 10,000. */
  readonly requestTimeoutMs?: number;
  /** Time that `close` gives to running requests, in milliseconds. Default 1,000. */
  readonly closeGraceMs?: number;
  readonly logger?: Logger;
}

export interface MetadataServer {
  /** URI for engines, "http://127.0.0.1:8080/metadata". */
  readonly url: string;
  readonly port: number;
  /** Documents held now. */
  readonly size: number;
  /** Ends running requests within the grace time, then all connections. Idempotent. */
  close(): Promise<void>;
}

type Settings = Required<MetadataServerOptions>;

/**
 * Starts a metadata server that the C++ engine's and our HTTP clients can use.
 *
 * Documents are kept in memory and byte for byte. `GET`, `PUT` and `DELETE` of `<path>?key=<key>`;
 * `GET /health` answers 200. Source of the behaviours: Mooncake 3b5a594,
 * mooncake-wheel/mooncake/http_metadata_server.py, mooncake-store/src/http_metadata_server.cpp.
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT`; `ERR_TE_PORT_UNAVAILABLE` when the address cannot
 * be listened on.
 */
export async function createMetadataServer(
  options: MetadataServerOptions = {},
): Promise<MetadataServer> {
  const settings = withDefaults(options);
  const documents = new DocumentTable(settings);
  const handler = new RequestHandler(documents, settings);
  const server = createServer({
    requestTimeout: settings.requestTimeoutMs,
    headersTimeout: settings.requestTimeoutMs,
    // The bound is looked at this often; the default of 30 s would stretch it.
    connectionsCheckingInterval: Math.max(50, Math.min(1_000, settings.requestTimeoutMs / 4)),
    // A key of the largest length with every byte percent-encoded, and the other headers.
    maxHeaderSize: 16 * 1024 + settings.maxKeyLength * 9,
    keepAliveTimeout: 5_000,
  });
  server.maxConnections = settings.maxConnections;
  server.on('request', (request, response) => handler.handle(request, response, false));
  server.on('checkContinue', (request, response) => handler.handle(request, response, true));
  await listen(server, settings);
  const { port } = server.address() as AddressInfo;
  const host = settings.host.includes(':') ? `[${settings.host}]` : settings.host;
  let closing: Promise<void> | undefined;
  return {
    url: `http://${host}:${port}${settings.path}`,
    port,
    get size() {
      return documents.size;
    },
    close: () => (closing ??= closeServer(server, settings.closeGraceMs)),
  };
}

class RequestHandler {
  readonly #documents: DocumentTable;
  readonly #settings: Settings;
  readonly #budget: ReceiveBudget;

  constructor(documents: DocumentTable, settings: Settings) {
    this.#documents = documents;
    this.#settings = settings;
    this.#budget = new ReceiveBudget(settings.maxTotalBytes);
  }

  handle(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): void {
    this.#answer(request, response, expectsContinue).catch((error: unknown) => {
      this.#settings.logger.warn({ err: error }, 'metadata request failed');
      if (response.headersSent) response.destroy();
      else send(response, 500, 'internal error');
    });
  }

  async #answer(
    request: IncomingMessage,
    response: ServerResponse,
    expectsContinue: boolean,
  ): Promise<void> {
    const { method = '' } = request;
    const { path, key } = splitTarget(request.url ?? '/');
    // A client that waits for "100 Continue" may send its body after a refusal, or not: only the
    // end of the connection is clear. Other unwanted bodies are read and dropped, within the time
    // for a request; closing at once could reset the connection before the answer is read.
    const done = (status: number, text: string, headers: Record<string, string> = {}) =>
      send(response, status, text, expectsContinue ? { ...headers, connection: 'close' } : headers);
    if (path === '/health')
      return method === 'GET' ? done(200, 'OK') : done(405, 'use GET', { allow: 'GET' });
    if (path !== this.#settings.path) return done(404, `documents are at ${this.#settings.path}`);
    if (method !== 'GET' && method !== 'PUT' && method !== 'DELETE')
      return done(405, 'use GET, PUT or DELETE', { allow: 'GET, PUT, DELETE' });
    if (key === undefined || key === '') return done(400, 'the parameter key is missing');
    if (key.length > this.#settings.maxKeyLength)
      return done(400, `the key is longer than ${this.#settings.maxKeyLength} characters`);
    if (method === 'PUT') return await this.#put(request, response, key, expectsContinue);
    if (method === 'DELETE') {
      const removed = this.#documents.remove(key);
      return done(
        removed ? 200 : this.#settings.missingDeleteStatus,
        removed ? 'removed' : 'no such key',
      );
    }
    const value = this.#documents.get(key);
    if (value === undefined) return done(404, 'no such key');
    return sendBytes(response, 200, value, { 'content-type': 'application/json' });
  }

  async #put(
    request: IncomingMessage,
    response: ServerResponse,
    key: string,
    expectsContinue: boolean,
  ): Promise<void> {
    const { maxValueBytes } = this.#settings;
    const headers: Record<string, string> = expectsContinue ? { connection: 'close' } : {};
    const tooLarge = () => send(response, 413, `values may have ${maxValueBytes} bytes`, headers);
    if (Number(request.headers['content-length'] ?? 0) > maxValueBytes) return tooLarge();
    if (expectsContinue) response.writeContinue();
    const body = await readBody(request, maxValueBytes, this.#budget);
    if (body === 'aborted') return;
    if (body === 'too-large') return tooLarge();
    if (body === 'no-room') return this.#full(response);
    switch (this.#documents.put(key, body)) {
      case 'stored':
        return send(response, 200, 'stored');
      case 'refused':
        return send(response, 400, 'the key exists and may not be overwritten; DELETE it first');
      case 'full':
        return this.#full(response);
    }
  }

  #full(response: ServerResponse): void {
    const { size, totalBytes } = this.#documents;
    this.#settings.logger.warn({ keys: size, bytes: totalBytes }, 'metadata server is full');
    send(response, 507, 'the server is full');
  }
}

function splitTarget(target: string): { path: string; key: string | undefined } {
  const question = target.indexOf('?');
  if (question < 0) return { path: target, key: undefined };
  const parameters = new URLSearchParams(target.slice(question + 1));
  return { path: target.slice(0, question), key: parameters.get('key') ?? undefined };
}

function send(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Record<string, string> = {},
): void {
  sendBytes(response, status, Buffer.from(text, 'utf8'), {
    'content-type': 'text/plain; charset=utf-8',
    ...headers,
  });
}

function sendBytes(
  response: ServerResponse,
  status: number,
  bytes: Buffer,
  headers: Record<string, string>,
): void {
  response.writeHead(status, { ...headers, 'content-length': bytes.length });
  response.end(bytes);
}

function listen(server: Server, settings: Settings): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (cause: Error) =>
      reject(
        new EngineError(
          'ERR_TE_PORT_UNAVAILABLE',
          `the metadata server cannot listen on ${settings.host} port ${settings.port} ` +
            `(${cause.message}); choose another port, or 0`,
          { cause, details: { host: settings.host, port: settings.port } },
        ),
      );
    server.once('error', onError);
    server.listen({ host: settings.host, port: settings.port }, () => {
      server.removeListener('error', onError);
      // An accept error of a running server (no more descriptors) must not end the process.
      server.on('error', (error) => settings.logger.warn({ err: error }, 'metadata listener'));
      resolve();
    });
  });
}

function closeServer(server: Server, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => server.closeAllConnections(), graceMs);
    server.close(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

function withDefaults(options: MetadataServerOptions): Settings {
  const settings: Settings = {
    host: options.host ?? '127.0.0.1',
    port: options.port ?? 8080,
    path: options.path ?? '/metadata',
    rpcMetaOverwrite: options.rpcMetaOverwrite ?? 'allow',
    missingDeleteStatus: options.missingDeleteStatus ?? 404,
    maxValueBytes: options.maxValueBytes ?? 128 * 1024 * 1024,
    maxKeys: options.maxKeys ?? 1_000_000,
    maxTotalBytes: options.maxTotalBytes ?? 1024 * 1024 * 1024,
    maxKeyLength: options.maxKeyLength ?? 4_096,
    maxConnections: options.maxConnections ?? 4_096,
    requestTimeoutMs: options.requestTimeoutMs ?? 10_000,
    closeGraceMs: options.closeGraceMs ?? 1_000,
    logger: options.logger ?? silentLogger,
  };
  if (!/^\/[^?#\s]*$/.test(settings.path))
    throw invalidArgument(
      'path',
      settings.path,
      'a path that starts with / and has no ?, # or space',
    );
  if (!Number.isInteger(settings.port) || settings.port < 0 || settings.port > 65_535)
    throw invalidArgument('port', settings.port, 'an integer from 0 to 65535');
  for (const name of [
    'maxValueBytes',
    'maxKeys',
    'maxTotalBytes',
    'maxKeyLength',
    'maxConnections',
    'requestTimeoutMs',
    'closeGraceMs',
  ] as const)
    if (!Number.isSafeInteger(settings[name]) || settings[name] <= 0)
      throw invalidArgument(name, settings[name], 'a positive integer');
  return settings;
}
