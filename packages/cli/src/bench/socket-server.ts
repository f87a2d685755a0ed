import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** Listens on a port of the loopback that the system chooses, until it is closed. */
export class SocketServer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(onSocket: (socket: Socket) => void) {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      onSocket(socket);
    });
  }

  /** @returns the port */
  async listen(): Promise<number> {
    this.#server.listen({ host: '127.0.0.1', port: 0 });
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
