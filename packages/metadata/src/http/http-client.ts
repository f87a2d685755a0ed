import { Agent, Pool, type Dispatcher } from 'undici';

export type Method = 'GET' | 'PUT' | 'DELETE' | 'POST';

export interface Reply {
  readonly status: number;
  readonly text: string;
}

export interface HttpRequest {
  readonly method: Method;
  readonly path: string;
  readonly body?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

export interface HttpClientOptions {
  readonly origin: string;
  readonly authorization: string | undefined;
  readonly connectTimeoutMs: number;
  readonly connections: number;
  readonly maxReplyBytes: number;
}

/** Extensions of our own server. */
export type Extension = 'list' | 'watch' | 'lease';

/** What a server of ours says that it can do, in every answer. */
const EXTENSIONS_HEADER = 'te-metadata';
/** Errors of a connection that the server closed while it was idle; the request had no effect yet. */
const STALE_CONNECTION = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

/** The reply is larger than what is accepted. */
export class ReplyTooLarge extends Error {}

/** Requests to one server. There are no redirects, and proxy variables are not looked at. */
export class HttpClient {
  readonly #options: HttpClientOptions;
  readonly #pool: Pool;
  /** Streams that stay open keep no request waiting for a connection. */
  readonly #streams: Agent;
  #offers: ReadonlySet<string> | undefined;
  #closing: Promise<unknown> | undefined;

  constructor(options: HttpClientOptions) {
    this.#options = options;
    const common = {
      connect: { timeout: options.connectTimeoutMs },
      // Every call has a deadline of its own, which covers headers and body.
      headersTimeout: 0,
      pipelining: 1,
    };
    this.#pool = new Pool(options.origin, {
      ...common,
      bodyTimeout: 0,
      connections: options.connections,
    });
    // A stream of ours is never silent for so long: it has a heartbeat.
    this.#streams = new Agent({ ...common, bodyTimeout: 30_000 });
  }

  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /** Whether the server offers an extension; undefined before its first answer. */
  offers(extension: Extension): boolean | undefined {
    return this.#offers?.has(extension);
  }

  /** All requests can be sent twice: one more try on another connection is safe. */
  async send(request: HttpRequest, signal: AbortSignal): Promise<Reply> {
    try {
      return await this.#sendOnce(request, signal);
    } catch (error) {
      if (signal.aborted || this.closed || !STALE_CONNECTION.has(codeOf(error))) throw error;
      return await this.#sendOnce(request, signal);
    }
  }

  /** The body of a reply that stays open; undefined when the status is not 200. */
  async stream(
    request: HttpRequest,
    signal: AbortSignal,
  ): Promise<AsyncIterable<Buffer> | undefined> {
    const { origin } = this.#options;
    const response = await this.#streams.request({ ...this.#toOptions(request, signal), origin });
    this.#noteOffers(response);
    if (response.statusCode === 200) return response.body as AsyncIterable<Buffer>;
    await response.body.dump();
    return undefined;
  }

  async close(): Promise<void> {
    this.#closing ??= Promise.all([this.#pool.destroy(), this.#streams.destroy()]);
    await this.#closing;
  }

  async #sendOnce(request: HttpRequest, signal: AbortSignal): Promise<Reply> {
    const response = await this.#pool.request(this.#toOptions(request, signal));
    this.#noteOffers(response);
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of response.body) {
      if (!Buffer.isBuffer(chunk)) continue;
      bytes += chunk.length;
      if (bytes > this.#options.maxReplyBytes) throw new ReplyTooLarge();
      chunks.push(chunk);
    }
    return { status: response.statusCode, text: Buffer.concat(chunks, bytes).toString('utf8') };
  }

  #toOptions({ method, path, body, headers }: HttpRequest, signal: AbortSignal) {
    const { authorization } = this.#options;
    return {
      method,
      path,
      signal,
      headers: {
        accept: '*/*',
        ...(authorization === undefined ? {} : { authorization }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      body: body ?? null,
    } satisfies Dispatcher.RequestOptions;
  }

  #noteOffers({ headers }: Dispatcher.ResponseData): void {
    const text = headers[EXTENSIONS_HEADER];
    const names = typeof text === 'string' ? text.split(',').map((name) => name.trim()) : [];
    this.#offers = new Set(names);
  }
}

export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}
