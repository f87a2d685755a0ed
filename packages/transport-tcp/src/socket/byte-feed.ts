import type { OnReadOpts, Socket } from 'node:net';

/** A consumer that says where it wants the next bytes of a stream. */
export interface ByteConsumer {
  /** Where the next bytes should be put; never empty, valid until the next read. */
  receiveTarget(): Buffer;
  /**
   * The first `count` bytes of the last target have been filled. Must not throw.
   *
   * @returns false to stop reading until {@link resumeFeed}
   */
  received(count: number): boolean;
}

/** Reads straight into the consumer's memory: for sockets that can be made with `onread`. */
export function directFeed(consumer: ByteConsumer): OnReadOpts {
  return {
    buffer: () => consumer.receiveTarget(),
    callback: (count) => consumer.received(count),
  };
}

/** Copies what a socket reads to where the consumer wants it: works with every stream. */
export class CopyFeed {
  readonly #socket: Socket;
  readonly #consumer: ByteConsumer;
  #rest: Buffer | undefined;

  constructor(socket: Socket, consumer: ByteConsumer) {
    this.#socket = socket;
    this.#consumer = consumer;
    socket.on('data', (chunk: Buffer) => this.#feed(chunk));
  }

  resume(): void {
    const rest = this.#rest;
    this.#rest = undefined;
    this.#socket.resume();
    if (rest !== undefined) this.#feed(rest);
  }

  #feed(chunk: Buffer): void {
    if (this.#rest !== undefined) {
      // A stream may deliver what it had already read before it minds the pause.
      this.#rest = Buffer.concat([this.#rest, chunk]);
      return;
    }
    let at = 0;
    while (at < chunk.length) {
      const count = chunk.copy(this.#consumer.receiveTarget(), 0, at);
      at += count;
      if (!this.#consumer.received(count) && !this.#socket.destroyed) {
        this.#socket.pause();
        if (at < chunk.length) this.#rest = chunk.subarray(at);
        return;
      }
    }
  }
}

/** Lets a paused socket read again, whichever way it is fed. */
export function resumeFeed(socket: Socket, feed: CopyFeed | undefined): void {
  if (feed === undefined) socket.resume();
  else feed.resume();
}
