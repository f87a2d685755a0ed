import type { Socket } from 'node:net';
import type { TransmitGroup } from '../session/transmit-group.ts';

/**
 * Writes a sealed, non-empty group as one gathered write.
 *
 * @param onWritten called once, when the kernel has all bytes, or with an error
 * @returns whether some bytes have to wait for the peer
 */
export function writeGroup(
  socket: Socket,
  group: TransmitGroup,
  onWritten: (error?: Error | null) => void,
): boolean {
  const chunks = group.chunks;
  const last = chunks.length - 1;
  if (last > 0) socket.cork();
  for (let index = 0; index < last; index += 1) socket.write(chunks[index] as Buffer);
  socket.write(chunks[last] as Buffer, onWritten);
  if (last > 0) socket.uncork();
  return socket.writableLength > 0;
}
