import { Agent, type Dispatcher } from 'undici';
import type { EtcdEndpoints, EtcdTls } from './etcd-endpoints.ts';

const CONNECT_MS = 1_500;
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
const ERROR_CHARACTERS = 200;
/** etcd says so when a token is missing, wrong or too old. */
const INVALID_TOKEN = /invalid auth token|user name is empty/i;

interface Failure {
  readonly error?: string;
  readonly message?: string;
}

/** Requests to etcd's JSON interface, at whichever endpoint answers. */
export class EtcdGateway {
  readonly #origins: readonly string[];
  readonly #credentials: { readonly name: string; readonly password: string } | undefined;
  readonly #agent: Agent;
  #preferred = 0;
  #token: Promise<string> | undefined;

  constructor(secure: boolean, endpoints: EtcdEndpoints, tls: EtcdTls = {}) {
    this.#origins = endpoints.hosts.map((host) => `${secure ? 'https' : 'http'}://${host}`);
    const { username, password = '' } = endpoints;
    if (username !== undefined && username !== '') this.#credentials = { name: username, password };
    this.#agent = new Agent({
      connect: { timeout: CONNECT_MS, ...tls },
      // Every call has a deadline of its own; streams are idle for as long as nothing changes.
      headersTimeout: 0,
      bodyTimeout: 0,
      pipelining: 1,
    });
  }

  /** The answer to one request; all requests are such that they can be sent twice. */
  async call(path: string, request: object, signal: AbortSignal): Promise<unknown> {
    const body = JSON.stringify(request);
    const answer = await this.#withToken(path, body, signal, readAll);
    return JSON.parse(answer) as unknown;
  }

  /** The answers to one request, line by line. */
  async *stream(path: string, request: object, signal: AbortSignal): AsyncGenerator<unknown> {
    const body = JSON.stringify(request);
    const chunks = await this.#withToken(path, body, signal, (response) =>
      Promise.resolve(response.body),
    );
    let text = '';
    const decoder = new TextDecoder();
    for await (const chunk of chunks) {
      text += decoder.decode(chunk as Buffer, { stream: true });
      if (text.length > ANSWER_BYTES_MAX) throw new Error('a line of the stream has no end');
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        if (line.trim() !== '') yield JSON.parse(line) as unknown;
      }
    }
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }

  async #withToken<T>(
    path: string,
    body: string,
    signal: AbortSignal,
    read: (response: Dispatcher.ResponseData) => Promise<T>,
  ): Promise<T> {
    if (this.#credentials === undefined) return await this.#send(path, body, signal, read);
    const token = this.#authenticate(signal);
    try {
      return await this.#send(path, body, signal, read, await token);
    } catch (error) {
      if (!(error instanceof Error) || !INVALID_TOKEN.test(error.message)) throw error;
      if (this.#token === token) this.#token = undefined;
      return await this.#send(path, body, signal, read, await this.#authenticate(signal));
    }
  }

  #authenticate(signal: AbortSignal): Promise<string> {
    if (this.#token !== undefined) return this.#token;
    const body = JSON.stringify(this.#credentials);
    const token = this.#send('auth/authenticate', body, signal, readAll).then(
      (answer) => (JSON.parse(answer) as { token?: string }).token ?? '',
    );
    this.#token = token;
    token.catch(() => {
      if (this.#token === token) this.#token = undefined;
    });
    return token;
  }

  /** Tries the endpoints one after the other, the one that answered last first. */
  async #send<T>(
    path: string,
    body: string,
    signal: AbortSignal,
    read: (response: Dispatcher.ResponseData) => Promise<T>,
    token?: string,
  ): Promise<T> {
    // A single endpoint gets a second chance: its idle connections may be dead.
    const attempts = Math.max(2, this.#origins.length);
    for (let attempt = 1; ; attempt += 1) {
      const index = this.#preferred % this.#origins.length;
      try {
        return await this.#sendTo(this.#origins[index] ?? '', path, body, signal, read, token);
      } catch (error) {
        const refused = error instanceof Refusal && !error.away;
        if (refused || signal.aborted || attempt >= attempts) throw error;
        this.#preferred = index + 1;
      }
    }
  }

  async #sendTo<T>(
    origin: string,
    path: string,
    body: string,
    signal: AbortSignal,
    read: (response: Dispatcher.ResponseData) => Promise<T>,
    token: string | undefined,
  ): Promise<T> {
    const response = await this.#agent.request({
      origin,
      path: `/v3/${path}`,
      method: 'POST',
      signal,
      headers: {
        'content-type': 'application/json',
        ...(token === undefined ? {} : { authorization: token }),
      },
      body,
    });
    if (response.statusCode === 200) return await read(response);
    throw refusalOf(response.statusCode, await readAll(response));
  }
}

/** An answer that is no success. */
class Refusal extends Error {
  /** Whether another member of the cluster may do better. */
  readonly away: boolean;

  constructor(message: string, away: boolean) {
    super(message);
    this.away = away;
  }
}

function refusalOf(status: number, text: string): Refusal {
  let reason = text;
  try {
    const { error, message } = JSON.parse(text) as Failure;
    reason = message ?? error ?? text;
  } catch {
    // No JSON: not etcd, or a proxy before it.
  }
  const shown = reason
    .slice(0, ERROR_CHARACTERS)
    .replace(/[^\x20-\x7e]/g, ' ')
    .trim();
  return new Refusal(`status ${status}: ${shown}`, status >= 502);
}

async function readAll(response: Dispatcher.ResponseData): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response.body) {
    if (!Buffer.isBuffer(chunk)) continue;
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES_MAX)
      throw new Error(`an answer has more than ${ANSWER_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, bytes).toString('utf8');
}
