import {
  EngineError,
  invalidArgument,
  RefreshedLease,
  type LeaseOptions,
  type MetadataLease,
  type MetadataStore,
  type MetadataWatch,
  type StoreCallOptions,
  type WatchListener,
} from '@transfer-engine/core/metadata';
import { CallDeadline } from '../calls/call-deadline.ts';
import { KeyWatcher } from '../calls/key-watcher.ts';
import { positiveInteger } from '../calls/store-calls.ts';
import { codeOf, HttpClient, ReplyTooLarge, type HttpRequest, type Reply } from './http-client.ts';
import { encodeKey, parseHttpEndpoint, type HttpEndpoint } from './http-endpoint.ts';
import { HttpLease } from './http-lease.ts';
import { watchOverHttp } from './http-feed.ts';

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
  /** Shown to the server as `Authorization: Bearer <token>`. */
  readonly token?: string;
}

type Send = (request: Omit<HttpRequest, 'path'>) => Promise<Reply>;

const SHOWN_REPLY_CHARACTERS = 200;

/**
 * Documents on an HTTP key-value server, as the C++ engine keeps them.
 *
 * Requests are `GET`, `PUT` and `DELETE` of `<uri>?key=<key>`; 200 is success and nothing else is,
 * but a missing key is an answer (`undefined`) and removing it succeeds. Source: Mooncake 3b5a594,
 * transfer_metadata_plugin.cpp (HTTPStoragePlugin).
 *
 * Our own server says in its answers that it can list, watch and lease; that is used then. On other
 * servers `list` rejects with `ERR_TE_NOT_IMPLEMENTED`, a watch stays silent, and leased keys do
 * not go away by themselves; but a lease notices there, too, when its keys were lost.
 */
export class HttpStore implements MetadataStore {
  readonly description: string;
  readonly trailingNewline = false;
  readonly #endpoint: HttpEndpoint;
  readonly #client: HttpClient;
  readonly #timeoutMs: number;
  readonly #maxValueBytes: number;
  readonly #replaceRefused: boolean;
  readonly #watcher: KeyWatcher;
  readonly #leases = new Set<MetadataLease>();

  /** @throws EngineError `ERR_TE_INVALID_ARGUMENT` for a URI or an option that cannot be used. */
  constructor(uri: string, options: HttpStoreOptions = {}) {
    this.#endpoint = parseHttpEndpoint(uri);
    this.description = this.#endpoint.description;
    this.#timeoutMs = positiveInteger('timeoutMs', options.timeoutMs ?? 3_000);
    this.#maxValueBytes = positiveInteger(
      'maxValueBytes',
      options.maxValueBytes ?? 128 * 1024 * 1024,
    );
    this.#replaceRefused = options.replaceRefused ?? true;
    this.#client = new HttpClient({
      origin: this.#endpoint.origin,
      authorization:
        options.token === undefined ? this.#endpoint.authorization : `Bearer ${options.token}`,
      connectTimeoutMs: positiveInteger('connectTimeoutMs', options.connectTimeoutMs ?? 1_500),
      connections: positiveInteger('connections', options.connections ?? 8),
      maxReplyBytes: this.#maxValueBytes,
    });
    this.#watcher = new KeyWatcher((keys, events, signal) =>
      watchOverHttp(this.#client, this.#endpoint.path, { keys, events, signal }),
    );
  }

  async get(key: string, options?: StoreCallOptions): Promise<string | undefined> {
    return await this.#call('GET', key, options, async (send) => {
      const reply = await send({ method: 'GET' });
      if (reply.status === 404) return undefined;
      if (reply.status === 200) return reply.text;
      throw this.#refused('GET', key, reply);
    });
  }

  async put(key: string, value: string, options?: StoreCallOptions): Promise<void> {
    await this.#put(key, value, options);
  }

  async remove(key: string, options?: StoreCallOptions): Promise<void> {
    await this.#call('DELETE', key, options, async (send) => {
      const reply = await send({ method: 'DELETE' });
      if (reply.status !== 200 && reply.status !== 404) throw this.#refused('DELETE', key, reply);
    });
  }

  async list(prefix: string, options?: StoreCallOptions): Promise<string[]> {
    const path = `${this.#endpoint.queryPrefix}prefix=${encodeKey(prefix)}`;
    const list = async (send: Send): Promise<string[]> => {
      const reply = await send({ method: 'GET' });
      if (this.#client.offers('list') !== true) {
        throw new EngineError(
          'ERR_TE_NOT_IMPLEMENTED',
          `${this.description} cannot list its keys; only the server of te metadata serve can ` +
            '(etcd and Redis can, too)',
          { details: { store: this.description } },
        );
      }
      if (reply.status !== 200) throw this.#refused('GET', `${prefix}…`, reply);
      const { keys } = JSON.parse(reply.text) as { keys: string[] };
      return keys.sort();
    };
    return await this.#call('GET', prefix, options, list, path);
  }

  watch(key: string, listener: WatchListener): MetadataWatch {
    encodeKey(key);
    return this.#watcher.watch(key, listener);
  }

  lease(options: LeaseOptions): MetadataLease {
    const server = new HttpLease(options.leaseMs, {
      put: (key, value, headers, bounds) => this.#put(key, value, bounds, headers),
      remove: (key, bounds) => this.remove(key, bounds),
      get: (key, bounds) => this.get(key, bounds),
      offered: () => this.#client.offers('lease') === true,
      post: async (body, bounds) =>
        await this.#call(
          'POST',
          'lease',
          bounds,
          async (send) => {
            const reply = await send({ method: 'POST', body: JSON.stringify(body) });
            if (reply.status !== 200) throw this.#refused('POST', 'lease', reply);
            return JSON.parse(reply.text) as unknown;
          },
          this.#endpoint.path,
        ),
    });
    const lease = new RefreshedLease(options, server);
    this.#leases.add(lease);
    return lease;
  }

  /** Ends running calls with `ERR_TE_CLOSED` and closes all connections. */
  close(): Promise<void> {
    for (const lease of this.#leases) lease.close();
    this.#watcher.close();
    return this.#client.close();
  }

  async #put(
    key: string,
    value: string,
    options: StoreCallOptions | undefined,
    headers?: Readonly<Record<string, string>>,
  ): Promise<void> {
    await this.#call('PUT', key, options, async (send) => {
      const request = { method: 'PUT', body: value, headers } as const;
      const reply = await send(request);
      if (reply.status === 200) return;
      const replaceable = this.#replaceRefused && reply.status === 400 && key.includes('rpc_meta');
      if (!replaceable) throw this.#refused('PUT', key, reply);
      await this.#replace(key, value, send, request);
    });
  }

  /**
   * Python's and C++'s servers answer 400 to a `PUT` on an `rpc_meta` key that exists (C++'s only
   * when the value differs). The key belongs to the engine whose name it ends in, so what is there
   * is our own, from before a crash.
   */
  async #replace(
    key: string,
    value: string,
    send: Send,
    request: Omit<HttpRequest, 'path'>,
  ): Promise<void> {
    const present = await send({ method: 'GET' });
    if (present.status === 200 && present.text === value) return;
    if (present.status !== 200 && present.status !== 404) throw this.#refused('GET', key, present);
    const removed = await send({ method: 'DELETE' });
    if (removed.status !== 200 && removed.status !== 404)
      throw this.#refused('DELETE', key, removed);
    const reply = await send(request);
    if (reply.status !== 200) throw this.#refused('PUT', key, reply);
  }

  async #call<T>(
    method: HttpRequest['method'],
    key: string,
    options: StoreCallOptions | undefined,
    run: (send: Send) => Promise<T>,
    path = this.#endpoint.pathPrefix + encodeKey(key),
  ): Promise<T> {
    if (this.#client.closed) throw this.#closedError(method, key);
    const timeoutMs = options?.timeoutMs ?? this.#timeoutMs;
    if (!(timeoutMs > 0)) throw invalidArgument('timeoutMs', timeoutMs, 'more than 0');
    const deadline = new CallDeadline(options?.signal, timeoutMs, () =>
      this.#timeoutError(method, key, timeoutMs),
    );
    try {
      return await run((request) => this.#client.send({ ...request, path }, deadline.signal));
    } catch (error) {
      if (deadline.signal.aborted) throw deadline.signal.reason;
      if (this.#client.closed) throw this.#closedError(method, key, error);
      if (error instanceof EngineError) throw error;
      if (error instanceof ReplyTooLarge) throw this.#tooLarge(method);
      throw this.#unreachable(method, key, error);
    } finally {
      deadline.end();
    }
  }

  #refused(method: string, key: string, reply: Reply): EngineError {
    const said = reply.text
      .slice(0, SHOWN_REPLY_CHARACTERS)
      .replace(/[^\x20-\x7e]/g, ' ')
      .trim();
    const advice =
      reply.status === 401
        ? 'give the token of the server'
        : 'check that the URI is the address of a metadata server';
    return new EngineError(
      'ERR_TE_METADATA',
      `${method} of key "${key}" was answered with status ${reply.status} by ` +
        `${this.description}${said === '' ? '' : ` ("${said}")`}; ${advice}`,
      { details: { store: this.description, key, method, status: reply.status } },
    );
  }

  #tooLarge(method: string): EngineError {
    return new EngineError(
      'ERR_TE_METADATA',
      `the answer of ${this.description} to ${method} is larger than ${this.#maxValueBytes} ` +
        'bytes; raise maxValueBytes if the document is genuine',
      { details: { store: this.description, method, maxValueBytes: this.#maxValueBytes } },
    );
  }

  #unreachable(method: string, key: string, cause: unknown): EngineError {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new EngineError(
      'ERR_TE_METADATA',
      `${method} of key "${key}" failed: ${this.description} cannot be reached (` +
        `${[codeOf(cause), reason].filter((part) => part !== '').join(': ')}); check that the ` +
        'metadata server runs at this address',
      { cause, details: { store: this.description, key, method } },
    );
  }

  #timeoutError(method: string, key: string, timeoutMs: number): EngineError {
    return new EngineError(
      'ERR_TE_TIMEOUT',
      `${method} of key "${key}" was not answered by ${this.description} within ${timeoutMs} ms`,
      { details: { store: this.description, key, method, timeoutMs } },
    );
  }

  #closedError(method: string, key: string, cause?: unknown): EngineError {
    return new EngineError(
      'ERR_TE_CLOSED',
      `${method} of key "${key}": the store ${this.description} was closed`,
      { cause, details: { store: this.description, key, method } },
    );
  }
}
