import { readSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { ByteConsumer } from './byte-feed.ts';

/** Reads at most; what is left in a kernel's buffer is bounded anyway. */
const READS_MAX = 64;

/**
 * Hands over what a socket has received and not read yet, after a write on it has failed.
 *
 * A peer that refuses a request may close with bytes unread, and the reset that follows overtakes
 * us in the middle of a write. Node then destroys the socket, although the refusal still lies in
 * its buffer. The descriptor is not public; where there is none, nothing is read.
 */
export function drainReceived(socket: Socket, consumer: ByteConsumer): void {
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: unknown } | null };
  const fd = handle?.fd;
  if (typeof fd !== 'number' || fd < 0) return;
  try {
    for (let reads = 0; reads < READS_MAX && !socket.destroyed; reads += 1) {
      const target = consumer.receiveTarget();
      // The socket does not block: without bytes this throws.
      const count = readSync(fd, target, 0, target.length, null);
      if (count === 0) return;
      consumer.received(count);
    }
  } catch {
    // Nothing was left, or nothing can be read any more.
  }
}
