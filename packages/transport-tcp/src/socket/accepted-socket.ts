import { Socket } from 'node:net';
import { directFeed, type ByteConsumer } from './byte-feed.ts';

/** The parts of an accepted socket that Node keeps to itself; all of them may be missing. */
interface SocketInternals {
  _handle?: { useUserBuffer?: unknown } | null;
  server?: unknown;
  _server?: unknown;
}

/**
 * Makes an accepted socket read straight into the consumer's memory.
 *
 * Node offers `onread` only to sockets that connect, so the accepted socket's handle is put into a
 * new socket. The server's link moves along, or the server would wait for the empty shell when it
 * closes. Needs a server with `pauseOnConnect`, so that nothing has been read before.
 *
 * @returns undefined where the runtime is not built like that; then the caller copies
 */
export function rewrapAccepted(accepted: Socket, consumer: ByteConsumer): Socket | undefined {
  const shell = accepted as unknown as SocketInternals;
  const handle = shell._handle;
  if (typeof handle?.useUserBuffer !== 'function') return undefined;
  shell._handle = null;
  const options = {
    handle,
    onread: directFeed(consumer),
    allowHalfOpen: true,
    readable: true,
    writable: true,
  };
  const socket = new Socket(options);
  const inner = socket as unknown as SocketInternals;
  inner.server = shell.server;
  inner._server = shell._server;
  shell.server = null;
  shell._server = null;
  return socket;
}
