import { once } from 'node:events';
import { createMetadataServer } from '@transfer-engine/metadata/http-server';
import { defineCommand } from '../command.ts';
import { TOKEN_VARIABLE } from '../engine-setup.ts';
import { ExitCode, setUp } from '../failures.ts';
import { bytes, choice, integer, text } from '../options.ts';

export const metadataServe = defineCommand({
  name: 'metadata serve',
  summary: 'Runs an HTTP metadata server until it is stopped by a signal',
  options: {
    host: text('HOST', { help: 'address to listen on', fallback: '127.0.0.1' }),
    port: integer({ min: 0, max: 65_535, help: '0 lets the system choose', fallback: 8080 }),
    path: text('PATH', { help: 'path of the documents', fallback: '/metadata' }),
    data: text('FILE', { help: 'keeps documents in this file over restarts' }),
    token: text('TEXT', {
      help: `wants "Authorization: Bearer TEXT" of everybody (default: ${TOKEN_VARIABLE})`,
    }),
    requestsPerSecond: integer({ min: 1, max: 1_000_000, help: 'limit for each address' }),
    maxValueSize: bytes({ min: 1, max: 2 ** 29, fallback: 2 ** 27, help: 'largest document' }),
    maxTotalSize: bytes({ min: 1, max: 2 ** 40, fallback: 2 ** 30, help: 'all documents' }),
    maxKeys: integer({ min: 1, max: 100_000_000, fallback: 1_000_000, help: 'number of keys' }),
    rpcMetaOverwrite: choice(['allow', 'refuse', 'refuse-changes'], {
      help: 'a second document for a place: as the Go, the Python or the C++ server does',
      fallback: 'allow',
    }),
  },
  async run(values, { output, shutdown, logger, environment }) {
    const { host, port, path, data, requestsPerSecond, rpcMetaOverwrite, maxKeys } = values;
    const token = values.token ?? environment[TOKEN_VARIABLE];
    const server = await setUp(() =>
      createMetadataServer({
        ...{ host, port, path, logger, rpcMetaOverwrite, maxKeys },
        maxValueBytes: values.maxValueSize,
        maxTotalBytes: values.maxTotalSize,
        ...(data === undefined ? {} : { dataFile: data }),
        ...(token === undefined || token === '' ? {} : { token }),
        ...(requestsPerSecond === undefined ? {} : { requestsPerSecond }),
      }),
    );
    shutdown.add(() => server.close());
    output.event(
      { event: 'ready', uri: server.url, host, port: server.port, path },
      `metadata server is ready: --metadata ${server.url}`,
    );
    if (!shutdown.signal.aborted) await once(shutdown.signal, 'abort');
    return ExitCode.ok;
  },
});
