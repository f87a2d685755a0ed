import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';

/** What a program that knows nothing of our protocol does with a connection. */
export const STRANGERS = ['silence', 'garbage', 'http', 'echo', 'close', 'reset'] as const;
export type Stranger = (typeof STRANGERS)[number];

const HTTP = 'HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n';

/** Listens on ports that others were known by. */
export class StrangerServer {
  /** Connections so far. */
  connections = 0;
  readonly #manner: Stranger;
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();

  constructor(manner: Stranger) {
    this.#manner = manner;
  }

  async listen(ports: readonly number[]): Promise<void> {
    for (const port of ports) {
      const server = createServer({ allowHalfOpen: true }, (socket) => this.#serve(socket));
      this.#servers.push(server);
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
    }
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    const open = this.#servers.filter(({ listening }) => listening);
    await Promise.all(open.map((server) => once(server.close(), 'close')));
  }

  #serve(socket: Socket): void {
    this.connections += 1;
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    if (this.#manner === 'close') socket.end();
    else if (this.#manner === 'reset') socket.once('data', () => socket.resetAndDestroy());
    else if (this.#manner === 'http') socket.once('data', () => socket.end(HTTP));
    else if (this.#manner === 'echo') socket.on('data', (chunk) => socket.write(chunk));
    else if (this.#manner === 'garbage') socket.write(garbage());
    if (this.#manner !== 'echo') socket.resume();
    socket.on('end', () => socket.end());
  }
}

function garbage(): Buffer {
  const bytes = Buffer.alloc(4 * 1024 * 1024);
  for (let index = 0; index < bytes.length; index += 1) bytes[index] = (index * 197 + 91) & 0xff;
  return bytes;
}
