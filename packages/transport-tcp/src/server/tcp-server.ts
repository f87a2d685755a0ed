import { createServer, type Server, type Socket } from 'node:net';
import type {
  Clock,
  Logger,
  MemoryRegistry,
  Random,
  RegisteredRegion,
} from '@transfer-engine/core/transport';
import type { TcpCounters } from '../counters.ts';
import type { ExtendedTarget } from '../session/target-machine.ts';
import type { SlabPool } from '../session/transmit-group.ts';
import { SOCKET_OPTIONS } from '../socket/socket-options.ts';
import type { TcpSettings } from '../tcp-options.ts';
import type { SessionHeader } from '../wire/session-header.ts';
import { listen, type ListenPlan } from './listen.ts';
import { ServerSession, type SessionDeps } from './server-session.ts';

export interface ServerDeps {
  readonly registry: MemoryRegistry;
  readonly extended: ExtendedTarget | undefined;
  readonly settings: TcpSettings;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly scratch: Buffer;
  readonly slabs: SlabPool;
  readonly counters: TcpCounters;
}

/** The listener and its sessions: the target's side of the transport. */
export class TcpServer {
  readonly #deps: ServerDeps;
  readonly #sessionDeps: SessionDeps;
  readonly #sessions = new Set<ServerSession>();
  readonly #server: Server;
  #closing = false;

  constructor(deps: ServerDeps) {
    this.#deps = deps;
    this.#sessionDeps = {
      ...deps,
      target: { ...deps, onRefused: (header, reason) => this.#logRefusal(header, reason) },
      onClosed: (session) => this.#forget(session),
    };
    const options = { pauseOnConnect: true, allowHalfOpen: true, ...SOCKET_OPTIONS };
    this.#server = createServer(options, (socket) => this.#accept(socket));
  }

  /** @returns the port that was bound */
  async start(plan: ListenPlan): Promise<number> {
    const port = await listen(this.#server, plan, this.#deps.random);
    this.#server.on('error', (error) => {
      this.#deps.logger.warn({ err: error }, 'TCP listener failed to accept');
    });
    return port;
  }

  /** Breaks off requests that use one of the regions; resolves when none does any more. */
  async detach(regions: readonly RegisteredRegion[]): Promise<void> {
    const affected = [...this.#sessions].filter((session) =>
      regions.some((region) => session.uses(region)),
    );
    for (const session of affected) session.destroy();
    await Promise.all(affected.map((session) => session.closed));
  }

  async close(): Promise<void> {
    this.#closing = true;
    const unbound = new Promise<void>((resolve) => {
      // Resolves also when the server was never started.
      this.#server.close(() => resolve());
    });
    const sessions = [...this.#sessions];
    for (const session of sessions) session.destroy();
    await Promise.all(sessions.map((session) => session.closed));
    await unbound;
  }

  #accept(socket: Socket): void {
    const { counters, settings, logger } = this.#deps;
    if (this.#closing || this.#sessions.size >= settings.maxSessions) {
      counters.sessionsRefused += 1;
      if (isPowerOfTwo(counters.sessionsRefused)) {
        logger.warn(
          { refused: counters.sessionsRefused, maxSessions: settings.maxSessions },
          'TCP connection refused: too many sessions',
        );
      }
      socket.on('error', () => undefined);
      socket.destroy();
      return;
    }
    counters.sessionsAccepted += 1;
    this.#sessions.add(new ServerSession(socket, this.#sessionDeps));
    counters.sessionsOpen = this.#sessions.size;
  }

  #forget(session: ServerSession): void {
    this.#sessions.delete(session);
    this.#deps.counters.sessionsOpen = this.#sessions.size;
  }

  /** One line for the 1st, 2nd, 4th, 8th … refusal, so that a hostile peer cannot fill a disk. */
  #logRefusal(header: SessionHeader, reason: string): void {
    const refused = this.#deps.counters.requestsRefused;
    if (!isPowerOfTwo(refused)) return;
    const address = (BigInt(header.addressHigh) << 32n) | BigInt(header.addressLow);
    this.#deps.logger.warn(
      {
        refused,
        reason,
        opcode: header.opcode,
        address: `0x${address.toString(16)}`,
        length: header.length,
      },
      'TCP request refused',
    );
  }
}

function isPowerOfTwo(count: number): boolean {
  return (count & (count - 1)) === 0;
}
