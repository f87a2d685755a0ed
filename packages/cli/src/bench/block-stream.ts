import { connect, type Socket } from 'node:net';

/** One read takes at most so much: the kernel rarely has more, and the loop stays responsive. */
const READ_MAX = 1 << 20;
const CREDITS = Buffer.alloc(64 * 1024, 1);

/**
 * The bare program that the engine is compared with: blocks over one connection, and nothing else.
 *
 * The receiver grants credits, one byte each; the sender sends one block for a credit. A credit
 * comes back when its block is complete, so it is an acknowledgement when the sender is the one
 * that measures, and a request when the receiver is. No headers, no copies: payload is written
 * from and read into memory of the same size as the engine's.
 */
export class BlockSender {
  readonly #socket: Socket;
  readonly #blocks: readonly Uint8Array[];
  #next = 0;
  #credits = 0;

  constructor(socket: Socket, memory: Buffer, blockBytes: number) {
    this.#socket = socket;
    this.#blocks = Array.from({ length: Math.floor(memory.length / blockBytes) }, (_, index) =>
      memory.subarray(index * blockBytes, (index + 1) * blockBytes),
    );
    socket.setNoDelay(true);
    socket.on('data', (credits) => this.#send(credits.length));
    socket.on('error', () => undefined);
  }

  /** Credits received so far; all but the first window are acknowledgements. */
  get credits(): number {
    return this.#credits;
  }

  #send(count: number): void {
    this.#credits += count;
    this.#socket.cork();
    for (let i = 0; i < count; i += 1) {
      const block = this.#blocks[this.#next];
      if (block !== undefined) this.#socket.write(block);
      this.#next = (this.#next + 1) % this.#blocks.length;
    }
    this.#socket.uncork();
  }
}

export class BlockReceiver {
  readonly #blockBytes: number;
  readonly #memory: Buffer;
  readonly #socket: Socket;
  #at = 0;
  #bytes = 0;
  #granted = 0;

  /** @param window blocks on their way at once */
  constructor(port: number, memory: Buffer, blockBytes: number, window: number) {
    this.#blockBytes = blockBytes;
    this.#memory = memory.subarray(0, Math.floor(memory.length / blockBytes) * blockBytes);
    this.#socket = connect({
      host: '127.0.0.1',
      port,
      noDelay: true,
      onread: {
        buffer: () =>
          this.#memory.subarray(this.#at, Math.min(this.#at + READ_MAX, this.#memory.length)),
        callback: (count) => this.#received(count),
      },
    });
    this.#socket.on('error', () => undefined);
    this.#socket.once('connect', () => this.#grant(window));
  }

  get bytes(): number {
    return this.#bytes;
  }

  close(): void {
    this.#socket.destroy();
  }

  #received(count: number): boolean {
    this.#bytes += count;
    this.#at = (this.#at + count) % this.#memory.length;
    const complete = Math.floor(this.#bytes / this.#blockBytes);
    if (complete > this.#granted) {
      this.#grant(complete - this.#granted);
      this.#granted = complete;
    }
    return true;
  }

  #grant(count: number): void {
    for (let left = count; left > 0; left -= CREDITS.length) {
      this.#socket.write(left < CREDITS.length ? CREDITS.subarray(0, left) : CREDITS);
    }
  }
}
