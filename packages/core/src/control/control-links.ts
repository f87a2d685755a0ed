import type { Exchange } from './control-client.ts';
import {
  ControlServer,
  type ControlServerOptions,
  type ControlServerStats,
} from './control-server.ts';

/** A control port that is open. */
export interface ControlListener {
  readonly port: number;
  stats(): ControlServerStats;
  close(): Promise<void>;
}

/** How control ports reach each other: by sockets, or by what a simulation puts in their place. */
export interface ControlLinks {
  listen(options: ControlServerOptions): Promise<ControlListener>;
  /** Undefined: sockets. */
  readonly exchange?: Exchange;
}

/** Control ports on TCP sockets. */
export const socketLinks: ControlLinks = {
  async listen(options) {
    const server = new ControlServer(options);
    await server.listen();
    return server;
  },
};
