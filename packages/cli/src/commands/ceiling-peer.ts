import { constants } from 'node:buffer';
import { BlockServer } from '../bench/block-server.ts';
import { BlockReceiver } from '../bench/block-stream.ts';
import { defineCommand } from '../command.ts';
import { ExitCode } from '../failures.ts';
import { bytes } from '../options.ts';
import { linesOf } from '../stdin-lines.ts';

/**
 * The other process of the bench's bare comparison. Lines: `receive PORT WINDOW CONNECTIONS`,
 * `serve`, `stop`.
 */
export const ceilingPeer = defineCommand({
  name: 'ceiling-peer',
  summary: 'The other side of the bare comparison of bench',
  internal: true,
  options: {
    block: bytes({ min: 1, max: constants.MAX_LENGTH, fallback: 1, help: 'bytes of a block' }),
    size: bytes({ min: 1, max: constants.MAX_LENGTH, fallback: 1, help: 'bytes of memory' }),
  },
  async run({ block, size }, { output, stdin, shutdown }) {
    const memory = Buffer.alloc(size, 1);
    const open: { close(): void }[] = [];
    const stop = () => open.splice(0).forEach((one) => one.close());
    shutdown.add(stop);
    output.event({ event: 'ready' });
    for await (const line of linesOf(stdin)) {
      const [command, port = 0, window = 0, connections = 0] = (line ?? '')
        .split(' ')
        .map((word, index) => (index === 0 ? word : Number(word)));
      if (command === 'receive') {
        for (let i = 0; i < Number(connections); i += 1) {
          open.push(new BlockReceiver(Number(port), memory, block, Number(window)));
        }
        output.event({ event: 'receiving' });
      } else if (command === 'serve') {
        const server = new BlockServer(memory, block);
        open.push(server);
        output.event({ event: 'serving', port: await server.listen() });
      } else if (command === 'stop') {
        stop();
        output.event({ event: 'stopped' });
      }
    }
    stop();
    return ExitCode.ok;
  },
});
