import { once } from 'node:events';
import { createMetadataServer } from '@transfer-engine/metadata/http-server';
import { defineCommand } from '../command.ts';
import { ExitCode, setUp } from '../failures.ts';
import { integer, text } from '../options.ts';

export const metadataServe = defineCommand({
  name: 'metadata serve',
  summary: 'Runs an HTTP metadata server until it is stopped by a signal',
  options: {
    host: text('HOST', { help: 'address to listen on', fallback: '127.0.0.1' }),
    port: integer({ min: 0, max: 65_535, help: '0 lets the system choose', fallback: 8080 }),
    path: text('PATH', { help: 'path of the documents', fallback: '/metadata' }),
  },
  async run({ host, port, path }, { output, shutdown, logger }) {
    const server = await setUp(() => createMetadataServer({ host, port, path, logger }));
    shutdown.add(() => server.close());
    output.event(
      { event: 'ready', uri: server.url, host, port: server.port, path },
      `metadata server is ready: --metadata ${server.url}`,
    );
    if (!shutdown.signal.aborted) await once(shutdown.signal, 'abort');
    return ExitCode.ok;
  },
});
