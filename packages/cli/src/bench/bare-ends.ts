import { connect, type Socket } from 'node:net';
import { FrameParser } from './frame-parser.ts';

/**
 * The bare program that the engine is compared with: one-sided requests over plain sockets.
 *
 * It does the same job on the wire, a header with an address and a length for each request and an
 * answer for each, with everything else left out: no engine, no registration, no checks, no
 * retries, no deadlines. Payload is written from and read into memory without a copy where that
 * is faster. The end that receives payload dials, because only dialled sockets can read into
 * memory of one's choice (`onread`); who asks and who answers does not depend on it.
 */
const HEADER = 24;
const ANSWER = 8;
const ANSWERS = Buffer.alloc(ANSWER * 4096);
const ONE_ANSWER = ANSWERS.subarray(0, ANSWER);

export interface Blocks {
  readonly memory: Buffer;
  readonly blockBytes: number;
}

/** Asks for WRITE: sends headers with payload, keeps `window` requests unanswered. */
export class WriteAsker {
  readonly #socket: Socket;
  readonly #requests: RequestRing;
  #bytes = 0;
  #answered = 0;

  constructor(socket: Socket, blocks: Blocks, window: number) {
    this.#socket = socket;
    this.#requests = new RequestRing(blocks, window);
    quiet(socket);
    socket.on('data', (answers) => this.#answers(answers.length));
    this.#send(window);
  }

  get completed(): number {
    return this.#answered;
  }

  #answers(bytes: number): void {
    this.#bytes += bytes;
    const answered = Math.floor(this.#bytes / ANSWER);
    const fresh = answered - this.#answered;
    this.#answered = answered;
    this.#send(fresh);
  }

  #send(count: number): void {
    this.#socket.cork();
    for (let i = 0; i < count; i += 1) {
      this.#socket.write(this.#requests.nextHeader());
      this.#socket.write(this.#requests.payload());
    }
    this.#socket.uncork();
  }
}

/** Serves WRITE: puts payload where headers say, and answers. */
export class WriteServer {
  readonly #socket: Socket;

  constructor(port: number, { memory }: Blocks) {
    let unanswered = 0;
    const parser = new FrameParser(HEADER, {
      header: (chunk, at) => placeOf(memory, chunk, at),
      frame: () => void (unanswered += 1),
    });
    this.#socket = dial(port, parser, () => {
      answer(this.#socket, unanswered);
      unanswered = 0;
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** Asks for READ: sends headers, takes answers with payload. */
export class ReadAsker {
  readonly #socket: Socket;
  #completed = 0;

  constructor(port: number, blocks: Blocks, window: number) {
    const requests = new RequestRing(blocks, window);
    const expected = new RequestRing(blocks, window);
    let fresh = 0;
    const parser = new FrameParser(ANSWER, {
      header: () => {
        expected.nextHeader();
        return expected.payload();
      },
      frame: () => void (fresh += 1),
    });
    const ask = (count: number) => {
      this.#socket.cork();
      for (let i = 0; i < count; i += 1) this.#socket.write(requests.nextHeader());
      this.#socket.uncork();
    };
    this.#socket = dial(port, parser, () => {
      this.#completed += fresh;
      ask(fresh);
      fresh = 0;
    });
    this.#socket.once('connect', () => ask(window));
  }

  get completed(): number {
    return this.#completed;
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** Serves READ: answers every header with the bytes that it names. */
export function serveReads(socket: Socket, { memory }: Blocks): void {
  quiet(socket);
  const parser = new FrameParser(HEADER, {
    header: (chunk, at) => {
      socket.write(ONE_ANSWER);
      socket.write(placeOf(memory, chunk, at));
      return undefined;
    },
    frame: () => undefined,
  });
  socket.on('data', (chunk) => {
    socket.cork();
    parser.feed(chunk);
    socket.uncork();
  });
}

/** Requests over the blocks of a memory in turn; a header is used again when it was answered. */
class RequestRing {
  readonly #headers: readonly Buffer[];
  readonly #payloads: readonly Buffer[];
  #next = 0;

  constructor({ memory, blockBytes }: Blocks, window: number) {
    const count = Math.max(window, Math.floor(memory.length / blockBytes));
    const slab = Buffer.alloc(count * HEADER);
    const places = Math.floor(memory.length / blockBytes);
    this.#headers = Array.from({ length: count }, (_, index) => {
      const address = (index % places) * blockBytes;
      slab.writeUInt32LE(address % 2 ** 32, index * HEADER + 8);
      slab.writeUInt32LE(Math.floor(address / 2 ** 32), index * HEADER + 12);
      slab.writeUInt32LE(blockBytes, index * HEADER + 16);
      return slab.subarray(index * HEADER, (index + 1) * HEADER);
    });
    this.#payloads = Array.from({ length: count }, (_, index) => {
      const address = (index % places) * blockBytes;
      return memory.subarray(address, address + blockBytes);
    });
  }

  nextHeader(): Buffer {
    this.#next = (this.#next + 1) % this.#headers.length;
    return this.#headers[this.#next] ?? ANSWERS;
  }

  /** Of the request whose header was the last one. */
  payload(): Buffer {
    return this.#payloads[this.#next] ?? ANSWERS;
  }
}

function placeOf(memory: Buffer, header: Buffer, at: number): Buffer {
  const address = header.readUInt32LE(at + 8) + header.readUInt32LE(at + 12) * 2 ** 32;
  return memory.subarray(address, address + header.readUInt32LE(at + 16));
}

function answer(socket: Socket, count: number): void {
  for (let left = count * ANSWER; left > 0; left -= ANSWERS.length) {
    socket.write(left < ANSWERS.length ? ANSWERS.subarray(0, left) : ANSWERS);
  }
}

function dial(port: number, parser: FrameParser, afterRead: () => void): Socket {
  const socket = connect({
    host: '127.0.0.1',
    port,
    onread: {
      buffer: () => parser.buffer(),
      callback: (count) => {
        parser.received(count);
        afterRead();
        return true;
      },
    },
  });
  quiet(socket);
  return socket;
}

/** A connection that ends has been ended by one of us: the measurement is over. */
function quiet(socket: Socket): void {
  socket.setNoDelay(true);
  socket.on('error', () => undefined);
}
