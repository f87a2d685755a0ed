import { once } from 'node:events';
import { createServer, type AddressInfo, type Server } from 'node:net';

/** Below what systems use for outgoing connections, so that nothing takes it in between. */
const FIRST = 20_000;
const LAST = 32_000;

export async function listenOn(port: number, host = '127.0.0.1'): Promise<Server> {
  const server = createServer();
  server.listen({ port, host, exclusive: true });
  await once(server, 'listening');
  return server;
}

export async function closeServer(server: Server): Promise<void> {
  if (!server.listening) return;
  server.close();
  await once(server, 'close');
}

export const portOf = (server: Server) => (server.address() as AddressInfo).port;

/** The first of `count` neighbouring ports that are free on every loopback address. */
export async function freePorts(count: number): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const first = FIRST + Math.floor(Math.random() * (LAST - FIRST - count));
    const ports = Array.from({ length: count }, (_, index) => first + index);
    const free = await Promise.all(ports.map(isFree));
    if (free.every(Boolean)) return first;
  }
  throw new Error(`no ${count} free ports between ${FIRST} and ${LAST}`);
}

async function isFree(port: number): Promise<boolean> {
  for (const host of ['127.0.0.1', '::1', '0.0.0.0']) {
    try {
      await closeServer(await listenOn(port, host));
    } catch {
      return false;
    }
  }
  return true;
}
