import {
  EngineError,
  invalidArgument,
  type MetadataStore,
  type StoreCallOptions,
} from '@transfer-engine/core/metadata';
import { Pool } from 'undici';
import { CallDeadline } from '../shared/call-deadline.ts';
import { encodeKey, parseHttpEndpoint, type HttpEndpoint } from './http-endpoint.ts';

export interface HttpStoreOptions {
  /** Time to set up a connection, in milliseconds. Default 1,500, as the C++ engine has. */
  readonly connectTimeoutMs?: number;
  /** Time for one call as a whole, in milliseconds, unless the call says. Default 3,000. */
  readonly timeoutMs?: number;
  /** Largest value that is accepted from the server, in bytes. Default 128 MiB. */
  readonly maxValueBytes?: number;
  /** Connections to the server at once. Default 8; further requests wait for one. */
  readonly connections?: number;
  /**
   * Whether `put` replaces an `rpc_meta` key that the server refuses to overwrite, which is what
   * an engine leaves behind when it crashes. Default true.
   */
  readonly replaceRefused?: boolean;
}

interface Reply {
  readonly status: number;
  readonly text: string;
}

type Method = 'GET' | 'PUT' | 'DELETE';

/** Errors of a connection that the server closed while it was idle; the request had no effect yet. */
const STALE_CONNECTION = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);
const SHOWN_REPLY_CHARACTERS = 200;

/**
 * Documents on an HTTP key-value server, as the C++ engine keeps them.
 *
 * Requests are `GET`, `PUT` and `DELETE` of `<uri>?key=<key>`; 200 is success and nothing else is,
 * but a missing key is an answer (`undefined`) and removing it succeeds. There are no redirects and
 * proxy variables of the environment are not looked at. Source: Mooncake 3b5a594,
 * transfer_metadata_plugin.cpp (HTTPStoragePlugin).
 */
export class HttpStore implements MetadataStore {
  readonly description: string;
  readonly trailingNewline = false;
  readonly #endpoint: HttpEndpoint;
  readonly #pool: Pool;
  readonly #timeoutMs: number;
  readonly #maxValueBytes: number;
  readonly #replaceRefused: boolean;
  #closing: Promise<void> | undefined;

  /** @throws EngineError `ERR_TE_INVALID_ARGUMENT` for a URI or an option that cannot be used. */
  constructor(uri: string, options: HttpStoreOptions = {}) {
    this.#endpoint = parseHttpEndpoint(uri);
    this.description = this.#endpoint.description;
    this.#timeoutMs = positive('timeoutMs', options.timeoutMs ?? 3_000);
    this.#maxValueBytes = positive('maxValueBytes', options.maxValueBytes ?? 128 * 1024 * 1024);
    this.#replaceRefused = options.replaceRefused ?? true;
    this.#pool = new Pool(this.#endpoint.origin, {
      connections: positive('connections', options.connections ?? 8),
      connect: { timeout: positive('connectTimeoutMs', options.connectTimeoutMs ?? 1_500) },
      // Every call has a deadline of its own, which covers headers and body.
      headersTimeout: 0,
      bodyTimeout: 0,
      pipelining: 1,
    });
  }

  async get(key: string, options?: StoreCallOptions): Promise<string | undefined> {
    return await this.#call('GET', key, options, async (request) => {
      const reply = await request('GET');
      if (reply.status === 404) return undefined;
      if (reply.status === 200) return reply.text;
      throw this.#refused('GET', key, reply);
    });
  }

  async put(key: string, value: string, options?: StoreCallOptions): Promise<void> {
    await this.#call('PUT', key, options, async (request) => {
      const reply = await request('PUT', value);
      if (reply.status === 200) return;
      const replaceable = this.#replaceRefused && reply.status === 400 && key.includes('rpc_meta');
      if (!replaceable) throw this.#refused('PUT', key, reply);
      await this.#replace(key, value, request);
    });
  }

  async remove(key: string, options?: StoreCallOptions): Promise<void> {
    await this.#call('DELETE', key, options, async (request) => {
      const reply = await request('DELETE');
      if (reply.status !== 200 && reply.status !== 404) throw this.#refused('DELETE', key, reply);
    });
  }

  /** Ends running calls with `ERR_TE_CLOSED` and closes all connections. */
  close(): Promise<void> {
    this.#closing ??= this.#pool.destroy();
    return this.#closing;
  }

  /**
   * Python's and C++'s servers answer 400 to a `PUT` on an `rpc_meta` key that exists (C++'s only
   * when the value differs). The key belongs to the engine whose name it ends in, so what is there
   * is our own, from before a crash.
   */
  async #replace(
    key: string,
    value: string,
    request: (method: Method, body?: string) => Promise<Reply>,
  ): Promise<void> {
    const present = await request('GET');
    if (present.status === 200 && present.text === value) return;
    if (present.status !== 200 && present.status !== 404) throw this.#refused('GET', key, present);
    const removed = await request('DELETE');
    if (removed.status !== 200 && removed.status !== 404)
      throw this.#refused('DELETE', key, removed);
    const reply = await request('PUT', value);
    if (reply.status !== 200) throw this.#refused('PUT', key, reply);
  }

  async #call<T>(
    method: Method,
    key: string,
    options: StoreCallOptions | undefined,
    run: (request: (method: Method, body?: string) => Promise<Reply>) => Promise<T>,
  ): Promise<T> {
    const path = this.#endpoint.pathPrefix + encodeKey(key);
    if (this.#closing !== undefined) throw this.#closedError(method, key);
    const timeoutMs = options?.timeoutMs ?? this.#timeoutMs;
    if (!(timeoutMs > 0)) throw invalidArgument('timeoutMs', timeoutMs, 'more than 0');
    const deadline = new CallDeadline(options?.signal, timeoutMs, () =>
      this.#timeoutError(method, key, timeoutMs),
    );
    try {
      return await run((step, body) => this.#request(step, path, body, deadline.signal));
    } catch (error) {
      if (deadline.signal.aborted) throw deadline.signal.reason;
      if (this.#closing !== undefined) throw this.#closedError(method, key, error);
      if (error instanceof EngineError) throw error;
      throw this.#unreachable(method, key, error);
    } finally {
      deadline.end();
    }
  }

  async #request(
    method: Method,
    path: string,
    body: string | undefined,
    signal: AbortSignal,
  ): Promise<Reply> {
    try {
      return await this.#requestOnce(method, path, body, signal);
    } catch (error) {
      // All requests are idempotent: one more try on another connection is safe.
      if (signal.aborted || this.#closing !== undefined || !STALE_CONNECTION.has(codeOf(error)))
        throw error;
      return await this.#requestOnce(method, path, body, signal);
    }
  }

  async #requestOnce(
    method: Method,
    path: string,
    body: string | undefined,
    signal: AbortSignal,
  ): Promise<Reply> {
    const { authorization } = this.#endpoint;
    const response = await this.#pool.request({
      method,
      path,
      signal,
      headers: {
        accept: '*/*',
        ...(authorization === undefined ? {} : { authorization }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      body: body ?? null,
    });
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of response.body) {
      if (!Buffer.isBuffer(chunk)) continue;
      bytes += chunk.length;
      if (bytes > this.#maxValueBytes) throw this.#tooLarge(method);
      chunks.push(chunk);
    }
    return { status: response.statusCode, text: Buffer.concat(chunks, bytes).toString('utf8') };
  }

  #refused(method: Method, key: string, reply: Reply): EngineError {
    const said = reply.text
      .slice(0, SHOWN_REPLY_CHARACTERS)
      .replace(/[^\x20-\x7e]/g, ' ')
      .trim();
    return new EngineError(
      'ERR_TE_METADATA',
      `${method} of key "${key}" was answered with status ${reply.status} by ` +
        `${this.description}${said === '' ? '' : ` ("${said}")`}; check that the URI is the ` +
        'address of a metadata server',
      { details: { store: this.description, key, method, status: reply.status } },
    );
  }

  #tooLarge(method: Method): EngineError {
    return new EngineError(
      'ERR_TE_METADATA',
      `the answer of ${this.description} to ${method} is larger than ${this.#maxValueBytes} ` +
        'bytes; raise maxValueBytes if the document is genuine',
      { details: { store: this.description, method, maxValueBytes: this.#maxValueBytes } },
    );
  }

  #unreachable(method: Method, key: string, cause: unknown): EngineError {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new EngineError(
      'ERR_TE_METADATA',
      `${method} of key "${key}" failed: ${this.description} cannot be reached (` +
        `${[codeOf(cause), reason].filter((part) => part !== '').join(': ')}); check that the ` +
        'metadata server runs at this address',
      { cause, details: { store: this.description, key, method } },
    );
  }

  #timeoutError(method: Method, key: string, timeoutMs: number): EngineError {
    return new EngineError(
      'ERR_TE_TIMEOUT',
      `${method} of key "${key}" was not answered by ${this.description} within ${timeoutMs} ms`,
      { details: { store: this.description, key, method, timeoutMs } },
    );
  }

  #closedError(method: Method, key: string, cause?: unknown): EngineError {
    return new EngineError(
      'ERR_TE_CLOSED',
      `${method} of key "${key}": the store ${this.description} was closed`,
      { cause, details: { store: this.description, key, method } },
    );
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

function positive(name: string, value: number): number {
  if (!Number.isSafeInteger(value) || value <= 0)
    throw invalidArgument(name, value, 'a positive integer');
  return value;
}
