import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ChangeStreams } from './change-streams.ts';
import type { DocumentFile } from './document-file.ts';
import type { DocumentTable, LeaseTerms } from './document-table.ts';
import { RateLimiter } from './rate-limiter.ts';
import { ReceiveBudget, readBody } from './read-body.ts';
import type { ServerSettings } from './server-settings.ts';

/**
 * Says what this server does beyond GET, PUT and DELETE, in every answer:
 *
 * `GET ?prefix=P` lists keys, `{"keys":[…]}`. `PUT` with the headers `te-lease` (an id that the
 * client made up) and `te-lease-ms` stores a key that goes away with its lease. `POST` of
 * `{"lease":id,"keys":[…]}` refreshes a lease and answers `{"missing":[…]}`. `POST` of
 * `{"watch":[…]}` is answered by a stream of server-sent events: `ready`, `put`, `remove`.
 */
export const EXTENSIONS_HEADER = 'te-metadata';
const EXTENSIONS: Record<string, string> = { [EXTENSIONS_HEADER]: 'list, watch, lease' };

const POST_BYTES_MAX = 8 * 1024 * 1024;
const LEASE_MS_MAX = 86_400_000;

interface Request {
  readonly message: IncomingMessage;
  readonly response: ServerResponse;
  readonly expectsContinue: boolean;
  readonly parameters: URLSearchParams;
}

/** Answers requests; everything that is remembered is elsewhere. */
export class RequestHandler {
  readonly #documents: DocumentTable;
  readonly #streams: ChangeStreams;
  readonly #file: DocumentFile | undefined;
  readonly #settings: ServerSettings;
  readonly #budget: ReceiveBudget;
  readonly #limiter: RateLimiter | undefined;
  readonly #tokenDigest: Buffer | undefined;

  constructor(
    documents: DocumentTable,
    streams: ChangeStreams,
    file: DocumentFile | undefined,
    settings: ServerSettings,
  ) {
    this.#documents = documents;
    this.#streams = streams;
    this.#file = file;
    this.#settings = settings;
    this.#budget = new ReceiveBudget(settings.maxTotalBytes);
    const { requestsPerSecond, token } = settings;
    if (requestsPerSecond !== undefined) this.#limiter = new RateLimiter(requestsPerSecond);
    if (token !== undefined) this.#tokenDigest = digest(`Bearer ${token}`);
  }

  handle(message: IncomingMessage, response: ServerResponse, expectsContinue: boolean): void {
    this.#answer(message, response, expectsContinue).catch((error: unknown) => {
      this.#settings.logger.warn({ err: error }, 'metadata request failed');
      if (response.headersSent) response.destroy();
      else send(response, 500, 'the document could not be kept', { connection: 'close' });
    });
  }

  async #answer(
    message: IncomingMessage,
    response: ServerResponse,
    expectsContinue: boolean,
  ): Promise<void> {
    const { path, parameters } = splitTarget(message.url ?? '/');
    const request: Request = { message, response, expectsContinue, parameters };
    const method = message.method ?? '';
    const done = (status: number, text: string, headers: Record<string, string> = {}) =>
      answer(request, status, text, headers);
    if (path === '/health')
      return method === 'GET' ? done(200, 'OK') : done(405, 'use GET', { allow: 'GET' });
    if (this.#limiter?.take(message.socket.remoteAddress ?? '') === false)
      return done(429, 'too many requests', { 'retry-after': '1' });
    if (!this.#isAuthorized(message))
      return done(401, 'a bearer token is needed', { 'www-authenticate': 'Bearer' });
    if (path !== this.#settings.path) return done(404, `documents are at ${this.#settings.path}`);
    if (method === 'POST' && !parameters.has('key')) return await this.#post(request);
    if (method !== 'GET' && method !== 'PUT' && method !== 'DELETE')
      return done(405, 'use GET, PUT or DELETE', { allow: 'GET, PUT, DELETE' });
    const key = parameters.get('key');
    const prefix = parameters.get('prefix');
    if (method === 'GET' && key === null && prefix !== null)
      return sendJson(response, { keys: this.#documents.keys(prefix) });
    if (key === null || key === '') return done(400, 'the parameter key is missing');
    if (key.length > this.#settings.maxKeyLength)
      return done(400, `the key is longer than ${this.#settings.maxKeyLength} characters`);
    if (method === 'PUT') return await this.#put(request, key);
    if (method === 'DELETE') return await this.#delete(request, key);
    const value = this.#documents.get(key);
    if (value === undefined) return done(404, 'no such key');
    return sendBytes(response, 200, value, { 'content-type': 'application/json' });
  }

  async #put(request: Request, key: string): Promise<void> {
    const { message, response, expectsContinue } = request;
    const { maxValueBytes } = this.#settings;
    const tooLarge = () =>
      answer(request, 413, `the value is too large: values may have ${maxValueBytes} bytes`);
    const lease = leaseOf(message);
    if (lease === 'invalid')
      return answer(request, 400, `te-lease-ms is a number from 1 to ${LEASE_MS_MAX}`);
    if (Number(message.headers['content-length'] ?? 0) > maxValueBytes) return tooLarge();
    if (expectsContinue) response.writeContinue();
    const body = await readBody(message, maxValueBytes, this.#budget);
    if (body === 'aborted') return;
    if (body === 'too-large') return tooLarge();
    if (body === 'no-room') return this.#full(response);
    switch (this.#documents.put(key, body, lease)) {
      case 'stored':
        await this.#file?.append({ op: 'put', key, value: body, lease });
        return send(response, 200, 'stored');
      case 'refused':
        return send(response, 400, 'the key exists and may not be overwritten; DELETE it first');
      case 'full':
        return this.#full(response);
    }
  }

  async #delete(request: Request, key: string): Promise<void> {
    // Its change is written to the file in the order of changes; this one waits for the same write.
    const removed = this.#documents.remove(key);
    if (!removed) return answer(request, this.#settings.missingDeleteStatus, 'no such key');
    await this.#file?.append({ op: 'remove', key });
    answer(request, 200, 'removed');
  }

  async #post(request: Request): Promise<void> {
    const { message, response, expectsContinue } = request;
    if (expectsContinue) response.writeContinue();
    const body = await readBody(message, POST_BYTES_MAX, this.#budget);
    if (body === 'aborted') return;
    if (typeof body === 'string') return answer(request, 413, 'the request is too large');
    const { lease, keys, watch } = parseObject(body);
    if (isTexts(watch)) {
      response.setTimeout(0);
      return this.#streams.add(response, watch, EXTENSIONS);
    }
    if (typeof lease === 'string' && isTexts(keys))
      return sendJson(response, { missing: this.#documents.refresh(lease, keys) });
    answer(request, 400, 'POST {"lease":"id","keys":[…]} or {"watch":[…]}');
  }

  #isAuthorized(message: IncomingMessage): boolean {
    if (this.#tokenDigest === undefined) return true;
    return timingSafeEqual(this.#tokenDigest, digest(message.headers.authorization ?? ''));
  }

  #full(response: ServerResponse): void {
    const { size, totalBytes } = this.#documents;
    this.#settings.logger.warn({ keys: size, bytes: totalBytes }, 'metadata server is full');
    send(response, 507, 'the server is full');
  }
}

/**
 * A client that waits for "100 Continue" may send its body after a refusal, or not: only the end of
 * the connection is clear. Other unwanted bodies are read and dropped, within the time for a
 * request; closing at once could reset the connection before the answer is read.
 */
function answer(
  { response, expectsContinue }: Request,
  status: number,
  text: string,
  headers: Record<string, string> = {},
): void {
  send(response, status, text, expectsContinue ? { ...headers, connection: 'close' } : headers);
}

function leaseOf({ headers }: IncomingMessage): LeaseTerms | 'invalid' | undefined {
  const id = headers['te-lease'];
  if (typeof id !== 'string' || id === '') return undefined;
  const leaseMs = Number(headers['te-lease-ms']);
  const valid = Number.isSafeInteger(leaseMs) && leaseMs > 0 && leaseMs <= LEASE_MS_MAX;
  return valid ? { id, leaseMs } : 'invalid';
}

function parseObject(body: Buffer): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function splitTarget(target: string): { path: string; parameters: URLSearchParams } {
  const question = target.indexOf('?');
  const query = question < 0 ? '' : target.slice(question + 1);
  return {
    path: question < 0 ? target : target.slice(0, question),
    parameters: new URLSearchParams(query),
  };
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

function sendJson(response: ServerResponse, value: object): void {
  sendBytes(response, 200, Buffer.from(JSON.stringify(value)), {
    'content-type': 'application/json',
  });
}

function sendBytes(
  response: ServerResponse,
  status: number,
  bytes: Buffer,
  headers: Record<string, string>,
): void {
  response.writeHead(status, { ...headers, ...EXTENSIONS, 'content-length': bytes.length });
  response.end(bytes);
}
