// A target with one buffer that speaks the wire of C++ engines and nothing else, with their habits:
// payload is applied as it comes in, a refused request ends the connection at once, the end of the
// peer's stream ends the session. Source: Mooncake 3b5a594, tcp_transport_session_impl.h,
// tcp_transport.cpp, transfer_metadata_plugin.cpp.
import { once } from 'node:events';
import { createServer } from 'node:net';
import { memory, resources, serve } from './robust-channel.mjs';
import { fill, runsOf } from './robust-pattern.mjs';

const METADATA = 1;
const HEADER_BYTES = 24;
const PIECE_BYTES = 64 * 1024;
const OK = Buffer.from('000000005654434d', 'hex');
const REJECTED = Buffer.from('010000005654434d', 'hex');

let bytes;
let base;
let version;
let dataPort;
let rpcPort;
let sessions = 0;
let refused = 0;
const control = createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => socket.destroy());
  let received = Buffer.alloc(0);
  socket.on('end', () => socket.end());
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk]);
    if (received.length < 9 || received.length < 8 + Number(received.readBigUInt64LE(0))) return;
    socket.end(answer(received[8]));
  });
});
const data = createServer({ allowHalfOpen: true }, (socket) => {
  sessions += 1;
  socket.on('close', () => {
    sessions -= 1;
  });
  socket.on('error', () => socket.destroy());
  socket.setNoDelay(true);
  new Session(socket);
});

function answer(type) {
  const name = `127.0.0.1:${rpcPort}`;
  // Before v0.3.12 there was no member for the version.
  const proto = version === 2 ? '"tcp_proto_version":2,' : '';
  const text =
    type === METADATA
      ? `{"buffers":[{"addr":${base},"length":${bytes.length},"name":"${name}"}],` +
        `"name":"${name}","protocol":"tcp","tcp_data_port":${dataPort},${proto}` +
        '"timestamp":"2026-01-01 00:00:00.000000"}\n'
      : '{"status":"success"}\n';
  const frame = Buffer.alloc(9 + text.length);
  frame.writeBigUInt64LE(BigInt(text.length + 1));
  frame[8] = type;
  frame.write(text, 9);
  return frame;
}

/** One connection to the data port. */
class Session {
  #socket;
  #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  /** What is left of the WRITE that is being received. */
  #at = 0;
  #left = 0;
  #v2 = false;
  #goOn = () => undefined;

  constructor(socket) {
    this.#socket = socket;
    socket.on('drain', () => this.#goOn());
    socket.on('close', () => this.#goOn());
    socket.on('readable', () => this.#take());
    socket.on('end', () => socket.end());
  }

  #take() {
    for (;;) {
      const wanted = this.#left > 0 ? this.#left : HEADER_BYTES - this.#headerBytes;
      const available = Math.min(wanted, this.#socket.readableLength);
      const chunk = available > 0 ? this.#socket.read(available) : this.#socket.read();
      if (chunk === null || this.#socket.destroyed) return;
      if (this.#left > 0) {
        chunk.copy(bytes, this.#at);
        this.#at += chunk.length;
        this.#left -= chunk.length;
        if (this.#left === 0 && this.#v2) this.#socket.write(OK);
      } else {
        chunk.copy(this.#header, this.#headerBytes);
        this.#headerBytes += chunk.length;
        if (this.#headerBytes === HEADER_BYTES && !this.#begin()) return;
      }
    }
  }

  /** @returns whether to go on reading now */
  #begin() {
    this.#headerBytes = 0;
    const length = this.#header.readBigUInt64LE(0);
    const at = this.#header.readBigUInt64LE(8) - base;
    const opcode = this.#header[16];
    this.#v2 = opcode >= 0x80;
    if (length === 0n || at < 0n || at + length > BigInt(bytes.length)) {
      refused += 1;
      this.#socket.removeAllListeners('readable');
      if (this.#v2) this.#socket.write(REJECTED, () => this.#socket.destroy());
      else this.#socket.destroy();
      return false;
    }
    this.#at = Number(at);
    if ((opcode & 0x7f) === 1) {
      this.#left = Number(length);
      return true;
    }
    if (this.#v2) this.#socket.write(OK);
    void this.#send(this.#at, this.#at + Number(length));
    return false;
  }

  async #send(from, to) {
    const socket = this.#socket;
    socket.removeAllListeners('readable');
    for (let at = from; at < to && !socket.destroyed; at += PIECE_BYTES) {
      const piece = Buffer.from(bytes.subarray(at, Math.min(to, at + PIECE_BYTES)));
      if (!socket.write(piece) && !socket.destroyed) {
        await new Promise((resolve) => {
          this.#goOn = resolve;
        });
      }
    }
    if (socket.destroyed) return;
    socket.on('readable', () => this.#take());
    this.#take();
  }
}

const part = (offset, length) => bytes.subarray(offset, offset + length);

serve({
  async create({ length, protoVersion, address, port = 0, mark }) {
    bytes = Buffer.alloc(length);
    if (mark !== undefined) fill(bytes, mark, 0);
    base = address;
    version = protoVersion;
    control.listen(port, '127.0.0.1');
    data.listen(0, '127.0.0.1');
    await Promise.all([once(control, 'listening'), once(data, 'listening')]);
    rpcPort = control.address().port;
    dataPort = data.address().port;
    return { name: `127.0.0.1:${rpcPort}`, rpcPort, dataPort, address };
  },
  fill({ parts }) {
    for (const { offset, length, mark, at } of parts) fill(part(offset, length), mark, at);
  },
  runs({ offset = 0, length = bytes.length, at = offset, marks }) {
    return runsOf(part(offset, length), at, marks);
  },
  harvest({ marks, mark }) {
    const runs = runsOf(bytes, 0, marks);
    fill(bytes, mark, 0);
    return runs;
  },
  state() {
    const transports = { tcp: { sessionsOpen: sessions, requestsRefused: refused } };
    const stats = { tasksActive: 0, slicesInFlight: 0, transports };
    return { resources: resources(), stats, pending: [] };
  },
  memory,
});
