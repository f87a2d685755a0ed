import { connect, type Socket } from 'node:net';
import type { CancelTimer, Clock } from '@transfer-engine/core/transport';
import type { TcpCounters } from '../counters.ts';
import type { Checksum } from '../session/checksum.ts';
import { SOCKET_OPTIONS } from '../socket/socket-options.ts';
import {
  decodeExtendedAnswer,
  encodeHello,
  EXTENDED_FRAME_BYTES,
  ExtendedAnswer,
  ExtendedStatus,
  HELLO_BYTES,
  type Hello,
} from '../wire/extended-frames.ts';

/** What a lane of framing x1 is made of. */
export interface ExtendedLane {
  /** Of the peer, as its document says. */
  readonly instance: string;
  /** Random; names the connection. */
  readonly token: Uint8Array;
  readonly checksum: Checksum;
}

/** An abort that overtook the hello of its connection is sent again after this time. */
const AGAIN_MS = 5;

export interface AbortDeps {
  /** Where the connection to be ended goes to. */
  readonly host: string;
  readonly port: number;
  readonly clock: Clock;
  readonly counters: TcpCounters;
}

/**
 * Asks the target to end another connection: connects, sends the hello, takes the answer. Has no
 * bound of its own; {@link cancel} ends it.
 */
export class AbortCall {
  readonly #deps: AbortDeps;
  readonly #frame = Buffer.alloc(HELLO_BYTES);
  readonly #bytes = Buffer.alloc(EXTENDED_FRAME_BYTES);
  readonly #mayBeEarly: () => boolean;
  readonly #onEnd: (answer: ExtendedAnswer | undefined) => void;
  #socket: Socket | undefined;
  #again: CancelTimer | undefined;
  #have = 0;
  #done = false;

  /**
   * @param mayBeEarly whether a connection that the target does not know may still come to it
   * @param onEnd called once unless canceled; undefined when no answer can come
   */
  constructor(
    deps: AbortDeps,
    hello: Hello,
    mayBeEarly: () => boolean,
    onEnd: (answer: ExtendedAnswer | undefined) => void,
  ) {
    this.#deps = deps;
    this.#mayBeEarly = mayBeEarly;
    this.#onEnd = onEnd;
    const { buffer, byteOffset } = this.#frame;
    encodeHello(new DataView(buffer, byteOffset, HELLO_BYTES), 0, hello);
    this.#send();
  }

  cancel(): void {
    this.#done = true;
    this.#again?.();
    this.#socket?.destroy();
  }

  #send(): void {
    const { host, port, counters } = this.#deps;
    counters.abortsSent += 1;
    this.#have = 0;
    const socket = connect({ host, port, ...SOCKET_OPTIONS });
    this.#socket = socket;
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.once('close', () => {
      if (this.#socket === socket) this.#end(undefined);
    });
    socket.write(this.#frame);
  }

  #take(chunk: Buffer): void {
    if (this.#have === EXTENDED_FRAME_BYTES) return;
    this.#have += chunk.copy(this.#bytes, this.#have);
    if (this.#have < EXTENDED_FRAME_BYTES) return;
    const answer = new ExtendedAnswer();
    if (!decodeExtendedAnswer(this.#bytes, 0, answer)) {
      this.#end(undefined);
    } else if (answer.code === ExtendedStatus.rejected && this.#mayBeEarly()) {
      const socket = this.#socket;
      this.#socket = undefined;
      socket?.destroy();
      this.#again = this.#deps.clock.schedule(AGAIN_MS, () => this.#send());
    } else {
      this.#end(answer);
    }
  }

  #end(answer: ExtendedAnswer | undefined): void {
    if (this.#done) return;
    this.cancel();
    this.#onEnd(answer);
  }
}
