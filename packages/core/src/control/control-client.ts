import { connect, type Socket } from 'node:net';
import { systemClock, type Clock } from '../base/clock.ts';
import { EngineError } from '../base/errors.ts';
import { toSegmentDescriptor } from '../metadata/descriptor-mapping.ts';
import type { SegmentDescriptor } from '../segment/segment-descriptor.ts';
import { decodeSegmentDocument } from '../wire/decode-segment-document.ts';
import {
  decodeHandshake,
  encodeHandshake,
  type HandshakeDocument,
} from '../wire/handshake-document.ts';
import { FrameDecoder, FrameType, encodeFrame } from '../wire/handshake-frame.ts';
import { parseJson64 } from '../wire/json64.ts';
import {
  decodeNotifyReply,
  encodeNotify,
  encodeNotifyReply,
  encodeProbe,
  type NotifyDocument,
} from '../wire/notify-document.ts';
import { formatHostPort } from '../wire/server-name.ts';
import { connectionError, peerLost } from './control-errors.ts';

export interface ExchangeOptions {
  readonly signal?: AbortSignal;
  /** The exchange as a whole, in milliseconds. Default 10,000. */
  readonly timeoutMs?: number;
  /** Until the connection stands, in milliseconds. Default 5,000 (`MC_HANDSHAKE_CONNECT_TIMEOUT`). */
  readonly connectTimeoutMs?: number;
  /** Largest answer, in bytes. Default 1 MiB (`MC_HANDSHAKE_MAX_LENGTH`). */
  readonly maxFrameBytes?: number;
}

/** Sends one control frame and returns the text of the answer. */
export type Exchange = (
  host: string,
  port: number,
  type: FrameType,
  json: string,
  options: ExchangeOptions,
) => Promise<string>;

export interface ControlClientDefaults extends Omit<ExchangeOptions, 'signal'> {
  readonly clock?: Clock;
  /** What carries frames. Default: sockets; a simulation puts its own in their place. */
  readonly exchange?: Exchange;
  /** The own control port: there alone, an answer may be what was sent. */
  readonly ownPort?: number;
}

const MIB = 1024 * 1024;

/** Questions that engines answer with the same words: who has nothing to offer, and "success". */
const NATURAL_ECHOES: ReadonlyMap<FrameType, string> = new Map([
  [FrameType.metadata, '{}'],
  [FrameType.notify, encodeNotifyReply()],
]);

/**
 * Asks other engines' control ports: one connection for each exchange, as the protocol wants it.
 *
 * The socket is closed as soon as the answer is there, because a C++ peer serves nobody else until
 * then. Aborting rejects with the signal's reason. Errors: `ERR_TE_DNS`, `ERR_TE_CONNECT_FAILED`,
 * `ERR_TE_TIMEOUT`, `ERR_TE_PEER_LOST` (closed without an answer: peers do that with what they do
 * not understand), `ERR_TE_PROTOCOL`, `ERR_TE_FRAME_TOO_LARGE`, `ERR_TE_MALFORMED_JSON`.
 * Source: Mooncake 3b5a594, src/transfer_metadata_plugin.cpp (doConnect, doSend*).
 */
export class ControlClient {
  readonly #defaults: ControlClientDefaults;

  constructor(defaults: ControlClientDefaults = {}) {
    this.#defaults = defaults;
  }

  /**
   * Sends one frame and returns the text of the answer, which has the same type. The text is not
   * parsed yet.
   */
  exchange(
    host: string,
    port: number,
    type: FrameType,
    json: string,
    options: ExchangeOptions = {},
  ): Promise<string> {
    const { clock = systemClock, exchange, ownPort: _ownPort, ...defaults } = this.#defaults;
    const bounds = { ...defaults, ...definedOf(options) };
    if (exchange !== undefined) return exchange(host, port, type, json, bounds);
    return new Promise((resolve, reject) => {
      if (options.signal?.aborted === true) return reject(options.signal.reason as Error);
      new SocketExchange({ host, port, type, json, clock, ...bounds, resolve, reject }).start();
    });
  }

  /**
   * An exchange in which no engine answers what it was asked: who does is a server of another kind
   * that sends back what it gets. Without this it would pass for a peer with our own document.
   */
  async #ask(
    host: string,
    port: number,
    type: FrameType,
    json: string,
    options?: ExchangeOptions,
  ): Promise<string> {
    const text = await this.exchange(host, port, type, json, options);
    const isNatural = json === NATURAL_ECHOES.get(type) || port === this.#defaults.ownPort;
    if (text !== json || isNatural) return text;
    const peer = formatHostPort(host, port);
    throw new EngineError(
      'ERR_TE_PROTOCOL',
      `${peer} sent back what it was sent: it is not the control port of an engine; check the address`,
      { details: { peer } },
    );
  }

  /**
   * Fetches the peer's segment (P2P mode).
   *
   * @param ownDocument the own segment's document; peers read it as JSON and use nothing of it.
   * @throws EngineError also `ERR_TE_SEGMENT_NOT_FOUND` when the peer has no segment to offer, and
   * `ERR_TE_METADATA` when its document is malformed.
   */
  async fetchSegment(
    host: string,
    port: number,
    ownDocument: string,
    options?: ExchangeOptions,
  ): Promise<SegmentDescriptor> {
    const text = await this.#ask(host, port, FrameType.metadata, ownDocument, options);
    return decodeAnswer(host, port, 'segment document', () => {
      const value = parseJson64(text);
      if (isEmptyAnswer(value)) throw noSegment(host, port);
      return toSegmentDescriptor(decodeSegmentDocument(value));
    });
  }

  /** @throws EngineError also `ERR_TE_METADATA` when the peer did not take the notification. */
  async notify(
    host: string,
    port: number,
    notification: NotifyDocument,
    options?: ExchangeOptions,
  ): Promise<void> {
    const json = encodeNotify(notification);
    const text = await this.#ask(host, port, FrameType.notify, json, options);
    const reply = decodeAnswer(host, port, 'answer to a notification', () =>
      decodeNotifyReply(text),
    );
    if (reply.accepted) return;
    const peer = formatHostPort(host, port);
    throw new EngineError(
      'ERR_TE_METADATA',
      `the engine at ${peer} did not take the notification "${notification.name}"; its inbox is ` +
        'full or closed: let it take notifications, then send again',
      { details: { peer } },
    );
  }

  /** Resolves when the peer answers: any well-formed answer says that it is alive. */
  async probe(host: string, port: number, options?: ExchangeOptions): Promise<void> {
    const text = await this.#ask(host, port, FrameType.probe, encodeProbe(), options);
    decodeAnswer(host, port, 'answer to a probe', () => parseJson64(text));
  }

  /** @throws EngineError also `ERR_TE_REJECT_HANDSHAKE` with the peer's reason. */
  async handshake(
    host: string,
    port: number,
    request: HandshakeDocument,
    options?: ExchangeOptions,
  ): Promise<HandshakeDocument> {
    const json = encodeHandshake(request);
    const text = await this.exchange(host, port, FrameType.connection, json, options);
    const reply = decodeAnswer(host, port, 'handshake', () => decodeHandshake(text));
    if (reply.replyMessage === '') return reply;
    const peer = formatHostPort(host, port);
    throw new EngineError(
      'ERR_TE_REJECT_HANDSHAKE',
      `the engine at ${peer} refused the handshake: ${reply.replyMessage}`,
      { details: { peer, reply: reply.replyMessage } },
    );
  }
}

interface ExchangeInit extends ExchangeOptions {
  readonly host: string;
  readonly port: number;
  readonly type: FrameType;
  readonly json: string;
  readonly clock: Clock;
  resolve(text: string): void;
  reject(error: unknown): void;
}

/** One connection, one question, one answer. Settles once and leaves nothing behind. */
class SocketExchange {
  readonly #init: ExchangeInit;
  readonly #peer: string;
  readonly #maxFrameBytes: number;
  readonly #decoder: FrameDecoder;
  readonly #cancels: (() => void)[] = [];
  #socket: Socket | undefined;
  #connected = false;
  #settled = false;

  constructor(init: ExchangeInit) {
    this.#init = init;
    this.#peer = formatHostPort(init.host, init.port);
    this.#maxFrameBytes = init.maxFrameBytes ?? MIB;
    this.#decoder = new FrameDecoder(this.#maxFrameBytes);
  }

  start(): void {
    const { host, port, signal, clock, timeoutMs = 10_000, connectTimeoutMs = 5_000 } = this.#init;
    if (!Number.isInteger(port) || port < 1 || port > 65_535 || host === '')
      return this.#fail(
        new EngineError(
          'ERR_TE_CONNECT_FAILED',
          `the control port ${this.#peer} cannot be dialled; expected a host and a port from 1 to 65535`,
          { details: { peer: this.#peer } },
        ),
      );
    const onAbort = (): void => this.#fail(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#cancels.push(
      () => signal?.removeEventListener('abort', onAbort),
      clock.schedule(timeoutMs, () => this.#timeout('answer', timeoutMs)),
      clock.schedule(connectTimeoutMs, () => {
        if (!this.#connected) this.#timeout('accept a connection', connectTimeoutMs);
      }),
    );
    const socket = connect({
      host,
      port,
      noDelay: true,
      // Each address of a name gets its share of the time before the next one is tried.
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: Math.max(10, Math.floor(connectTimeoutMs / 5)),
    });
    this.#socket = socket;
    socket.on('connect', () => this.#ask(socket));
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('end', () => this.#lost(undefined));
    socket.on('error', (error) => this.#failed(error));
    socket.on('close', () => this.#lost(undefined));
  }

  #ask(socket: Socket): void {
    this.#connected = true;
    socket.write(encodeFrame(this.#init.type, this.#init.json));
  }

  #receive(chunk: Buffer): void {
    if (this.#settled) return;
    try {
      this.#decoder.push(chunk);
      const frame = this.#decoder.next();
      if (frame === undefined) return;
      if (frame.type !== this.#init.type || frame.legacy)
        throw new EngineError(
          'ERR_TE_PROTOCOL',
          `a message of type ${this.#init.type} was answered with ` +
            (frame.legacy ? 'one without a type' : `one of type ${frame.type}`),
        );
      this.#finish();
      this.#init.resolve(frame.text);
    } catch (error) {
      this.#fail(inContext(`the answer of ${this.#peer}`, this.#peer, error));
    }
  }

  #failed(error: Error): void {
    if (this.#connected) this.#lost(error);
    else this.#fail(connectionError(this.#init.host, this.#peer, error));
  }

  #lost(cause: Error | undefined): void {
    if (this.#settled) return;
    this.#fail(peerLost(this.#peer, this.#init.type, this.#decoder.bufferedBytes, cause));
  }

  #timeout(what: string, ms: number): void {
    this.#fail(
      new EngineError(
        'ERR_TE_TIMEOUT',
        `the engine at ${this.#peer} did not ${what} within ${ms} ms`,
        {
          details: { peer: this.#peer, timeoutMs: ms, receivedBytes: this.#decoder.bufferedBytes },
        },
      ),
    );
  }

  #fail(error: unknown): void {
    if (this.#settled) return;
    this.#finish();
    this.#init.reject(error);
  }

  #finish(): void {
    this.#settled = true;
    for (const cancel of this.#cancels) cancel();
    this.#socket?.destroy();
  }
}

function decodeAnswer<T>(host: string, port: number, what: string, decode: () => T): T {
  const peer = formatHostPort(host, port);
  try {
    return decode();
  } catch (error) {
    if (error instanceof EngineError && error.code === 'ERR_TE_SEGMENT_NOT_FOUND') throw error;
    throw inContext(`${what} of ${peer}`, peer, error);
  }
}

function inContext(what: string, peer: string, error: unknown): EngineError {
  const known = EngineError.from(error, 'ERR_TE_PROTOCOL');
  const reason = known.message.replace(`${known.code}: `, '');
  return new EngineError(known.code, `${what}: ${reason}`, {
    cause: error,
    details: { ...known.details, peer },
  });
}

/** C++ answers null when it has no segment; we answer with an empty object. */
function isEmptyAnswer(value: unknown): boolean {
  if (value === null) return true;
  return typeof value === 'object' && !Array.isArray(value) && Object.keys(value).length === 0;
}

function noSegment(host: string, port: number): EngineError {
  const peer = formatHostPort(host, port);
  return new EngineError(
    'ERR_TE_SEGMENT_NOT_FOUND',
    `the engine at ${peer} answers, but has no segment to offer yet; it has no transport, or is ` +
      'still starting',
    { details: { peer } },
  );
}

/** An option that is there but undefined must not hide a default. */
function definedOf(options: ExchangeOptions): ExchangeOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
