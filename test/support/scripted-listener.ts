import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { ByteReader } from './byte-reader.ts';
import { controlFrameSize, HEADER_BYTES, isWrite, parseDataHeader } from './wire-bytes.ts';

/** A server whose connections are served by a function; failures are kept, not thrown. */
class ScriptedServer {
  readonly failures: Error[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(serve: (reader: ByteReader) => Promise<void>, serial: boolean) {
    let turn = Promise.resolve();
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      this.#sockets.add(socket);
      const reader = new ByteReader(socket);
      const work = () =>
        serve(reader).catch((error: unknown) => {
          this.failures.push(error as Error);
          socket.destroy();
        });
      if (serial) turn = turn.then(work);
      else void work();
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async listen(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (!this.#server.listening) return;
    this.#server.close();
    await once(this.#server, 'close');
  }
}

/**
 * A control port with the habits of the C++ daemon: one connection at a time, one exchange on each,
 * and the next one only when the client has closed. Source: Mooncake 3b5a594,
 * src/transfer_metadata_plugin.cpp (startDaemon).
 */
export class ScriptedControlPort extends ScriptedServer {
  /** Request frames in the order they came in. */
  readonly requests: Buffer[];

  constructor(answer: (request: Buffer) => Buffer) {
    const requests: Buffer[] = [];
    super(async (reader) => {
      const request = await reader.readFrame(controlFrameSize);
      requests.push(request);
      reader.socket.end(answer(request));
      await reader.expectEnd();
    }, true);
    this.requests = requests;
  }
}

/** What a recorded target answered a request with. */
export interface DataAnswer {
  readonly bytes: Buffer;
  /** The connection ends behind the answer. A refused WRITE is answered behind its header. */
  readonly ends: boolean;
}

/** A data port that answers requests as a recorded target did, on as many connections as come. */
export class ScriptedDataPort extends ScriptedServer {
  /** Whole requests, header and payload, in the order they were complete. */
  readonly requests: Buffer[];

  constructor(answer: (header: Buffer) => DataAnswer) {
    const requests: Buffer[] = [];
    super(async (reader) => {
      for (;;) {
        const header = await reader.readUpTo(HEADER_BYTES);
        if (header.length === 0) break;
        const { length, opcode } = parseDataHeader(header);
        const { bytes, ends } = answer(header);
        if (ends) reader.socket.end(bytes);
        const payload = isWrite(opcode) ? Number(length) : 0;
        const body = await reader.readUpTo(payload);
        requests.push(Buffer.concat([header, body]));
        if (ends) break;
        reader.socket.write(bytes);
      }
      await reader.expectEnd();
      reader.socket.end();
    }, false);
    this.requests = requests;
  }
}
