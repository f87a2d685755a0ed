import type { Socket } from 'node:net';
import type { CancelTimer, Clock } from '../base/clock.ts';
import { EngineError } from '../base/errors.ts';
import {
  FrameDecoder,
  encodeFrame,
  encodeLegacyFrame,
  type ControlFrame,
} from '../wire/handshake-frame.ts';
import type { ControlHandler } from './control-handlers.ts';
import type { RejectionReason } from './rejection-log.ts';

export interface ControlBounds {
  readonly maxFrameBytes: number;
  /** For the whole request to arrive, from the first moment on. */
  readonly requestTimeoutMs: number;
  /** For the handler to answer and the peer to take the answer, together. */
  readonly replyTimeoutMs: number;
  /** For the peer to close after the answer. */
  readonly lingerMs: number;
}

/** What a connection needs of its server. */
export interface ConnectionHost {
  readonly clock: Clock;
  readonly bounds: ControlBounds;
  readonly handle: ControlHandler;
  /** Changes how much memory requests being received hold; false when it is too much. */
  reserve(bytes: number): boolean;
  reject(reason: RejectionReason, peer: string, error?: EngineError): void;
  answered(): void;
}

/**
 * One exchange on an accepted socket: one frame in, one frame of the same kind out, FIN, then the
 * peer's close. Each step has a deadline. What the peer sends after its request is dropped.
 */
export class ControlConnection {
  readonly #socket: Socket;
  readonly #host: ConnectionHost;
  readonly #peer: string;
  #decoder: FrameDecoder | undefined;
  #cancelTimer: CancelTimer = () => undefined;
  #reserved = 0;
  #touched = false;

  /** The socket must allow half-open connections. */
  constructor(socket: Socket, host: ConnectionHost) {
    this.#socket = socket;
    this.#host = host;
    this.#peer = `${socket.remoteAddress ?? 'unknown'} port ${socket.remotePort ?? 0}`;
    this.#decoder = new FrameDecoder(host.bounds.maxFrameBytes);
    socket.setNoDelay(true);
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('end', () => this.#peerEnded());
    socket.on('error', (error) => this.#failed(error));
    socket.on('close', () => this.#closed());
    this.#deadline(host.bounds.requestTimeoutMs, 'slow', 'sent no complete request');
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    const decoder = this.#decoder;
    if (decoder === undefined) return;
    this.#touched = true;
    let frame: ControlFrame | undefined;
    try {
      decoder.push(chunk);
      frame = decoder.next();
    } catch (error) {
      return this.#end(reasonOf(error), EngineError.from(error, 'ERR_TE_PROTOCOL'));
    }
    if (frame === undefined) {
      if (!this.#reserve(decoder.bufferedBytes)) this.#end('out-of-memory-budget');
      return;
    }
    this.#decoder = undefined;
    this.#reserve(0);
    this.#answer(frame).catch((error: unknown) =>
      this.#end(reasonOf(error), EngineError.from(error)),
    );
  }

  async #answer(frame: ControlFrame): Promise<void> {
    this.#deadline(this.#host.bounds.replyTimeoutMs, 'reply-timeout', 'did not take the answer');
    const { json, refusal } = await this.#host.handle(frame.type, frame.text);
    if (this.#socket.destroyed) return;
    if (refusal !== undefined) this.#host.reject('refused', this.#peer, refusal);
    const bytes = frame.legacy ? encodeLegacyFrame(json) : encodeFrame(frame.type, json);
    this.#socket.end(bytes, () => {
      // Also called when the peer went away before the answer was out.
      if (this.#socket.destroyed) return;
      this.#host.answered();
      this.#cancelTimer();
      // A peer that leaves its side open has its answer: nothing is wrong, but nothing is kept.
      this.#cancelTimer = this.#host.clock.schedule(this.#host.bounds.lingerMs, () =>
        this.#socket.destroy(),
      );
    });
  }

  /** After a whole request this is a half-close, and the answer still goes out. */
  #peerEnded(): void {
    if (this.#decoder === undefined) return;
    // Connecting and closing without a byte is how ports are checked: not worth a count.
    if (this.#touched) this.#end('truncated');
    else this.#socket.destroy();
  }

  #failed(error: Error): void {
    if (this.#decoder !== undefined && this.#touched)
      this.#end('truncated', EngineError.from(error, 'ERR_TE_PEER_LOST'));
    this.#socket.destroy();
  }

  #closed(): void {
    this.#decoder = undefined;
    this.#cancelTimer();
    this.#reserve(0);
  }

  #end(reason: RejectionReason, error?: EngineError): void {
    if (this.#socket.destroyed) return;
    this.#decoder = undefined;
    this.#host.reject(reason, this.#peer, error);
    this.#socket.destroy();
  }

  #deadline(ms: number, reason: RejectionReason, what: string): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#host.clock.schedule(ms, () =>
      this.#end(
        reason,
        new EngineError('ERR_TE_TIMEOUT', `the peer at ${this.#peer} ${what} within ${ms} ms`),
      ),
    );
  }

  #reserve(bytes: number): boolean {
    const more = bytes - this.#reserved;
    if (more === 0) return true;
    if (!this.#host.reserve(more)) return false;
    this.#reserved = bytes;
    return true;
  }
}

function reasonOf(error: unknown): RejectionReason {
  if (!(error instanceof EngineError)) return 'internal';
  if (error.code === 'ERR_TE_FRAME_TOO_LARGE') return 'too-large';
  if (error.code === 'ERR_TE_MALFORMED_JSON') return 'malformed-json';
  return error.code === 'ERR_TE_PROTOCOL' ? 'malformed-frame' : 'internal';
}
