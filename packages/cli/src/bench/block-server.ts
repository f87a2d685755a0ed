import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { BlockSender } from './block-stream.ts';

/** Sends blocks to whoever connects, each connection at its own pace. */
export class BlockServer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #senders: BlockSender[] = [];

  constructor(memory: Buffer, blockBytes: number) {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      this.#senders.push(new BlockSender(socket, memory, blockBytes));
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  /** @returns the port */
  async listen(): Promise<number> {
    this.#server.listen({ host: '127.0.0.1', port: 0 });
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  get credits(): number {
    return this.#senders.reduce((sum, sender) => sum + sender.credits, 0);
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
