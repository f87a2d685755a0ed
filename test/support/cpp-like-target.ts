import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { ByteReader } from './byte-reader.ts';
import { ScriptedControlPort } from './scripted-listener.ts';
import { buildControlFrame, HEADER_BYTES, isWrite, parseDataHeader } from './wire-bytes.ts';

const METADATA = 1;
const PROBE = 3;
const OK = Buffer.from('000000005654434d', 'hex');
const REJECTED = Buffer.from('010000005654434d', 'hex');

export interface CppLikeOptions {
  readonly length: number;
  /** What the document says: 2 (default), or 1 as engines before v0.3.12. */
  readonly protoVersion?: 1 | 2;
  /** Closes after every request, as servers up to v0.3.9. */
  readonly oneShot?: boolean;
  /** Takes the place of serving a request: what a target should never do. */
  readonly misbehave?: (request: Buffer, socket: Socket) => void;
}

/**
 * A target with one buffer and the habits of the C++ engine, where they differ from ours: a refused
 * request ends the connection at once, with whatever was not read, so that the close becomes a
 * reset; and every opcode that is not WRITE is a READ. Source: Mooncake 3b5a594,
 * tcp_transport_session_impl.h, tcp_transport.cpp (validateTcpAddress).
 */
export class CppLikeTarget {
  readonly memory: Buffer;
  readonly address = 0x7f00_0000_1000n;
  /** Connections to the data port so far. */
  connections = 0;
  refused = 0;
  readonly #options: CppLikeOptions;
  readonly #control: ScriptedControlPort;
  readonly #sockets = new Set<Socket>();
  readonly #data = createServer({ allowHalfOpen: true }, (socket) => {
    this.connections += 1;
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => undefined);
    this.#serve(new ByteReader(socket)).catch(() => socket.destroy());
  });

  constructor(options: CppLikeOptions) {
    this.#options = options;
    this.memory = Buffer.alloc(options.length);
    this.#control = new ScriptedControlPort((request) =>
      request[8] === METADATA
        ? buildControlFrame({ type: METADATA, text: this.#document() })
        : buildControlFrame({ type: PROBE, text: '{"status":"success"}\n' }),
    );
  }

  get name(): string {
    return `127.0.0.1:${this.#control.port}`;
  }

  async listen(): Promise<void> {
    await this.#control.listen();
    this.#data.listen(0, '127.0.0.1');
    await once(this.#data, 'listening');
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#data.close();
    await Promise.all([once(this.#data, 'close'), this.#control.close()]);
  }

  #document(): string {
    const { port } = this.#data.address() as AddressInfo;
    const { length, protoVersion = 2 } = this.#options;
    // Before v0.3.12 there was no member for the version.
    const version = protoVersion === 2 ? '"tcp_proto_version":2,' : '';
    return (
      `{"buffers":[{"addr":${this.address},"length":${length},"name":"${this.name}"}],` +
      `"name":"${this.name}","protocol":"tcp","tcp_data_port":${port},${version}` +
      '"timestamp":"2026-01-01 00:00:00.000000"}\n'
    );
  }

  async #serve(reader: ByteReader): Promise<void> {
    const { socket } = reader;
    for (;;) {
      const header = await reader.readUpTo(HEADER_BYTES);
      if (header.length < HEADER_BYTES) break;
      if (this.#options.misbehave !== undefined) {
        this.#options.misbehave(header, socket);
        return;
      }
      const { address, length, opcode } = parseDataHeader(header);
      const v2 = opcode >= 0x80;
      const at = address - this.address;
      if (length === 0n || at < 0n || at + length > BigInt(this.memory.length)) {
        this.refused += 1;
        socket.pause();
        if (v2) socket.write(REJECTED, () => socket.destroy());
        else socket.destroy();
        return;
      }
      const range = this.memory.subarray(Number(at), Number(at + length));
      if (isWrite(opcode)) {
        const body = await reader.read(range.length);
        body.copy(range);
        if (v2) socket.write(OK);
      } else {
        if (v2) socket.write(OK);
        socket.write(Buffer.from(range));
      }
      if (this.#options.oneShot === true) break;
    }
    socket.end();
  }
}
