import { serveReads, WriteServer } from '../bench/bare-ends.ts';
import { SocketServer } from '../bench/socket-server.ts';
import { defineCommand } from '../command.ts';
import { ExitCode } from '../failures.ts';
import { bytes } from '../options.ts';
import { linesOf } from '../stdin-lines.ts';
import { MEMORY_BYTES_MAX } from '../memory-limit.ts';

/**
 * The other process of the bench's bare comparison. Lines: `write PORT CONNECTIONS` dials
 * and takes what is written, `read` listens and gives what is read, `stop` ends both.
 */
export const ceilingPeer = defineCommand({
  name: 'ceiling-peer',
  summary: 'The other side of the bare comparison of bench',
  internal: true,
  options: {
    block: bytes({ min: 1, max: MEMORY_BYTES_MAX, fallback: 1, help: 'bytes of a block' }),
    size: bytes({ min: 1, max: MEMORY_BYTES_MAX, fallback: 1, help: 'bytes of memory' }),
  },
  async run({ block, size }, { output, stdin, shutdown }) {
    const blocks = { memory: Buffer.alloc(size, 1), blockBytes: block };
    const open: { close(): void }[] = [];
    const stop = () => open.splice(0).forEach((one) => one.close());
    shutdown.add(stop);
    output.event({ event: 'ready' });
    for await (const line of linesOf(stdin)) {
      const [command, port, connections] = (line ?? '').split(' ');
      if (command === 'write') {
        for (let i = 0; i < Number(connections); i += 1) {
          open.push(new WriteServer(Number(port), blocks));
        }
        output.event({ event: 'ready-to-write' });
      } else if (command === 'read') {
        const server = new SocketServer((socket) => serveReads(socket, blocks));
        open.push(server);
        output.event({ event: 'ready-to-read', port: await server.listen() });
      } else if (command === 'stop') {
        stop();
        output.event({ event: 'stopped' });
      }
    }
    stop();
    return ExitCode.ok;
  },
});
