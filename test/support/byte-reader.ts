import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { within } from './waiting.ts';

const PATIENCE_MS = 15_000;

/** A socket that is read in pieces of a known size, each with a deadline. */
export class ByteReader {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  #ended = false;
  #closed = false;
  #error: Error | undefined;
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake();
    });
    socket.on('end', () => {
      this.#ended = true;
      this.#wake();
    });
    socket.on('error', (error) => {
      this.#error = error;
    });
    socket.on('close', () => {
      this.#closed = true;
      this.#wake();
    });
  }

  /** A connection that stays open on this side until it is told to end. */
  static async connect(port: number, host = '127.0.0.1'): Promise<ByteReader> {
    const socket = connect({ port, host, allowHalfOpen: true });
    const reader = new ByteReader(socket);
    await within(once(socket, 'connect'), PATIENCE_MS, `connecting to port ${port}`);
    socket.setNoDelay(true);
    return reader;
  }

  /** What was received and not read. */
  get pending(): Buffer {
    return this.#received;
  }

  get ended(): boolean {
    return this.#ended;
  }

  get error(): Error | undefined {
    return this.#error;
  }

  /** The next `length` bytes. */
  async read(length: number): Promise<Buffer> {
    await this.#waitFor(() => this.#received.length >= length, `${length} bytes`);
    const bytes = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return bytes;
  }

  /** The next `length` bytes, or fewer when the peer ends before. */
  async readUpTo(length: number): Promise<Buffer> {
    const there = () => this.#received.length >= length || this.#ended || this.#closed;
    await this.#waitFor(there, `${length} bytes or the end`);
    return this.read(Math.min(length, this.#received.length));
  }

  /** What `size` finds at the start of the stream, once it is whole. */
  async readFrame(size: (bytes: Buffer) => number | undefined): Promise<Buffer> {
    await this.#waitFor(() => size(this.#received) !== undefined, 'a whole frame');
    return this.read(size(this.#received) as number);
  }

  /** Waits for the peer's FIN, which must come before any other byte or a reset. */
  async expectEnd(): Promise<void> {
    await this.#waitFor(() => this.#ended, 'the end of the stream');
    if (this.#received.length > 0) {
      throw new Error(`${this.#received.length} bytes too many: ${this.#received.toString('hex')}`);
    }
  }

  /** Waits until the connection is gone, in whichever way. */
  async closed(): Promise<void> {
    await this.#waitFor(() => this.#closed, 'the close');
  }

  async #waitFor(there: () => boolean, what: string): Promise<void> {
    while (!there()) {
      if (this.#closed) {
        const why = this.#error === undefined ? 'closed' : `failed (${this.#error.message})`;
        throw new Error(
          `the connection ${why} with ${this.#received.length} bytes pending before ${what} came`,
        );
      }
      const change = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      await within(change, PATIENCE_MS, what);
    }
  }
}
