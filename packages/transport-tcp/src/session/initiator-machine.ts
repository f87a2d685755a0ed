import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { systemClock, type Clock } from '../base/clock.ts';
import { EngineError } from '../base/errors.ts';
import { silentLogger, type Logger } from '../base/logger.ts';
import { systemRandom, type Random } from '../base/random.ts';
import {
  ControlConnection,
  type ConnectionHost,
  type ControlBounds,
} from './control-connection.ts';
import type { ControlHandler } from './control-handlers.ts';
import { bindPort, type PortChoice } from './port-binding.ts';
import { RejectionLog, type RejectionReason } from './rejection-log.ts';

export interface ControlServerOptions extends Partial<ControlBounds> {
  readonly handle: ControlHandler;
  /** Address to listen on. Default: every interface, both families ("::", else "0.0.0.0"). */
  readonly bindHost?: string;
  /** A port, 0 (the system's choice, the default), or a range to draw from. */
  readonly port?: PortChoice;
  /** Connections at once; more are refused. Default 1,024. */
  readonly maxConnections?: number;
  /** Bytes that requests being received may hold together. Default 64 MiB, or 4 frames. */
  readonly maxReceivingBytes?: number;
  /** Connections that the system holds before they are accepted. Default 1,024; C++ has 128. */
  readonly backlog?: number;
  /** Time that `close` gives to exchanges in progress. Default 250 ms. */
  readonly closeGraceMs?: number;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly logger?: Logger;
}

export interface ControlServerStats {
  readonly connections: number;
  readonly answered: number;
  readonly rejected: number;
  readonly rejections: Readonly<Partial<Record<RejectionReason, number>>>;
}

const MIB = 1024 * 1024;

/**
 * The control port of an engine: peers ask it for the segment's document, hand over notifications,
 * probe it and connect queue pairs.
 *
 * Exchanges are independent of each other: one that hangs delays nobody (the C++ daemon serves one
 * at a time). Whatever arrives, memory and time are bounded and the rest is served.
 * Source of the exchange: Mooncake 3b5a594, src/transfer_metadata_plugin.cpp (startDaemon).
 */
export class ControlServer {
  readonly #options: ControlServerOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #rejections: RejectionLog;
  readonly #connections = new Set<ControlConnection>();
  readonly #host: ConnectionHost;
  readonly #maxConnections: number;
  #server: Server | undefined;
  #receivingBytes = 0;
  #answered = 0;
  #onIdle: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: ControlServerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger;
    this.#rejections = new RejectionLog(this.#clock, this.#logger);
    this.#maxConnections = options.maxConnections ?? 1_024;
    const bounds: ControlBounds = {
      maxFrameBytes: options.maxFrameBytes ?? MIB,
      requestTimeoutMs: options.requestTimeoutMs ?? 5_000,
      replyTimeoutMs: options.replyTimeoutMs ?? 10_000,
      lingerMs: options.lingerMs ?? 5_000,
    };
    const maxReceivingBytes =
      options.maxReceivingBytes ?? Math.max(64 * MIB, 4 * bounds.maxFrameBytes);
    this.#host = {
      clock: this.#clock,
      bounds,
      handle: options.handle,
      reserve: (bytes) => {
        if (bytes > 0 && this.#receivingBytes + bytes > maxReceivingBytes) return false;
        this.#receivingBytes += bytes;
        return true;
      },
      reject: (reason, peer, error) => this.#rejections.add(reason, { peer }, error),
      answered: () => {
        this.#answered += 1;
      },
    };
  }

  /**
   * Starts to listen and returns the port.
   *
   * @throws EngineError `ERR_TE_PORT_UNAVAILABLE`, naming the port or the range;
   * `ERR_TE_CLOSED` after `close`.
   */
  async listen(): Promise<number> {
    if (this.#closing !== undefined)
      throw new EngineError('ERR_TE_CLOSED', 'the control server was closed');
    const { bindHost, port = 0, backlog = 1_024, random = systemRandom } = this.#options;
    const server = await bindPort({
      create: () => createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket)),
      bindHost,
      port,
      backlog,
      random,
      purpose: 'control port',
    });
    server.on('error', (error) => this.#logger.warn({ err: error }, 'control listener'));
    if (this.#closing !== undefined) {
      server.close();
      throw new EngineError('ERR_TE_CLOSED', 'the control server was closed while it started');
    }
    this.#server = server;
    return this.port;
  }

  /** 0 while it does not listen. */
  get port(): number {
    const address = this.#server?.address() as AddressInfo | null | undefined;
    return address?.port ?? 0;
  }

  /** The address that is listened on; undefined while it does not listen. */
  get boundHost(): string | undefined {
    const address = this.#server?.address() as AddressInfo | null | undefined;
    return address?.address;
  }

  stats(): ControlServerStats {
    return {
      connections: this.#connections.size,
      answered: this.#answered,
      rejected: this.#rejections.total,
      rejections: this.#rejections.counts(),
    };
  }

  /** Accepts nothing more, gives exchanges in progress the grace time, then ends all. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  #accept(socket: Socket): void {
    if (this.#closing !== undefined || this.#connections.size >= this.#maxConnections) {
      const peer = `${socket.remoteAddress ?? 'unknown'} port ${socket.remotePort ?? 0}`;
      socket.on('error', () => undefined);
      socket.destroy();
      if (this.#closing === undefined) this.#rejections.add('too-many-connections', { peer });
      return;
    }
    const connection = new ControlConnection(socket, this.#host);
    this.#connections.add(connection);
    socket.once('close', () => {
      this.#connections.delete(connection);
      if (this.#connections.size === 0) this.#onIdle?.();
    });
  }

  async #close(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    const idle = new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      if (this.#connections.size === 0) resolve();
    });
    const cancel = this.#clock.schedule(this.#options.closeGraceMs ?? 250, () => {
      for (const connection of this.#connections) connection.destroy();
    });
    await idle;
    cancel();
    await closed;
  }
}
