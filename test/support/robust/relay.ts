import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { ByteReader } from '../byte-reader.ts';
import { buildControlFrame, controlFrameSize, parseControlFrame } from '../wire-bytes.ts';

const HOST = '127.0.0.1';

/** Stands between an initiator and a target, and can lose what passes without closing anything. */
export class Relay {
  readonly #target: { readonly name: string; readonly dataPort: number };
  readonly #sockets = new Set<Socket>();
  readonly #control = createServer({ allowHalfOpen: true }, (socket) => void this.#answer(socket));
  readonly #data = createServer({ allowHalfOpen: true }, (socket) => this.#pass(socket));
  #swallowing = false;

  private constructor(target: { readonly name: string; readonly dataPort: number }) {
    this.#target = target;
  }

  static async start(target: { name: string; dataPort: number }): Promise<Relay> {
    const relay = new Relay(target);
    for (const server of [relay.#control, relay.#data]) {
      server.listen(0, HOST);
      await once(server, 'listening');
    }
    return relay;
  }

  /** What to dial in the place of the target. */
  get name(): string {
    return `${HOST}:${portOf(this.#control)}`;
  }

  swallow(): void {
    this.#swallowing = true;
  }

  /** Forgets the connections that it was in the middle of, and passes new ones on. */
  heal(): void {
    this.#swallowing = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  readonly close = async (): Promise<void> => {
    this.heal();
    await Promise.all([this.#control, this.#data].map((server) => once(server.close(), 'close')));
  };

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#sockets.delete(socket));
    return socket;
  }

  #pass(near: Socket): void {
    this.#keep(near);
    const far = this.#keep(
      connect({ host: HOST, port: this.#target.dataPort, allowHalfOpen: true }),
    );
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('data', (chunk) => {
        if (this.#swallowing) return;
        if (!to.write(chunk)) from.pause();
      });
      to.on('drain', () => from.resume());
      from.on('end', () => {
        if (!this.#swallowing) to.end();
      });
      from.on('close', () => {
        if (!this.#swallowing) to.destroy();
      });
    }
  }

  /** The target's answers, with the relay's data port in the place of the target's. */
  async #answer(near: Socket): Promise<void> {
    this.#keep(near);
    try {
      const request = await new ByteReader(near).readFrame(controlFrameSize);
      if (this.#swallowing) return;
      const port = Number(this.#target.name.slice(HOST.length + 1));
      const far = this.#keep(connect({ host: HOST, port, allowHalfOpen: true }));
      far.write(request);
      const { type, text } = parseControlFrame(
        await new ByteReader(far).readFrame(controlFrameSize),
      );
      far.end();
      const own = `"tcp_data_port":${portOf(this.#data)}`;
      near.end(buildControlFrame({ type, text: text.replace(/"tcp_data_port":\d+/, own) }));
    } catch {
      near.destroy();
    }
  }
}

const portOf = (server: Server) => (server.address() as AddressInfo).port;
