import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { EngineError } from '@transfer-engine/core/metadata';
import { ChangeStreams } from './change-streams.ts';
import { DocumentFile, type DocumentRecord } from './document-file.ts';
import { DocumentTable, type Change } from './document-table.ts';
import { RequestHandler } from './request-handler.ts';
import {
  withDefaults,
  type MetadataServerOptions,
  type ServerSettings,
} from './server-settings.ts';

export type { RpcMetaOverwrite } from './document-table.ts';
export type { MetadataServerOptions } from './server-settings.ts';

export interface MetadataServer {
  /** URI for engines, "http://127.0.0.1:8080/metadata". */
  readonly url: string;
  readonly port: number;
  /** Documents held now. */
  readonly size: number;
  /** Ends running requests within the grace time, then all connections. Idempotent. */
  close(): Promise<void>;
}

/** What a running server is made of. */
interface Parts {
  readonly documents: DocumentTable;
  readonly streams: ChangeStreams;
  readonly file: DocumentFile | undefined;
}

/**
 * Starts a metadata server that the C++ engine's and our HTTP clients can use.
 *
 * Documents are kept byte for byte, in memory and, with `dataFile`, on the disk: a change is
 * acknowledged when it is there. `GET`, `PUT` and `DELETE` of `<path>?key=<key>`; `GET /health`
 * answers 200; for more see {@link RequestHandler}. Source of the behaviours: Mooncake 3b5a594,
 * mooncake-wheel/mooncake/http_metadata_server.py, mooncake-store/src/http_metadata_server.cpp.
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT`; `ERR_TE_PORT_UNAVAILABLE` when the address cannot
 * be listened on; `ERR_TE_METADATA` when the file cannot be used.
 */
export async function createMetadataServer(
  options: MetadataServerOptions = {},
): Promise<MetadataServer> {
  const settings = withDefaults(options);
  const parts = await openParts(settings);
  const { documents } = parts;
  const handler = new RequestHandler(documents, parts.streams, parts.file, settings);
  const server = createServer({
    requestTimeout: settings.requestTimeoutMs,
    headersTimeout: settings.requestTimeoutMs,
    // The bound is looked at this often; the default of 30 s would stretch it.
    connectionsCheckingInterval: Math.max(50, Math.min(1_000, settings.requestTimeoutMs / 4)),
    // A key of the largest length with every byte percent-encoded, and the other headers.
    maxHeaderSize: 16 * 1024 + settings.maxKeyLength * 9,
    keepAliveTimeout: 5_000,
  });
  server.maxConnections = settings.maxConnections;
  server.on('request', (request, response) => handler.handle(request, response, false));
  server.on('checkContinue', (request, response) => handler.handle(request, response, true));
  try {
    await listen(server, settings);
  } catch (error) {
    await closeParts(parts);
    throw error;
  }
  const { port } = server.address() as AddressInfo;
  const host = settings.host.includes(':') ? `[${settings.host}]` : settings.host;
  let closing: Promise<void> | undefined;
  return {
    url: `http://${host}:${port}${settings.path}`,
    port,
    get size() {
      return documents.size;
    },
    close: () => (closing ??= closeServer(server, settings.closeGraceMs, parts)),
  };
}

async function openParts(settings: ServerSettings): Promise<Parts> {
  const streams = new ChangeStreams();
  let file: DocumentFile | undefined;
  const onChange = (change: Change): void => streams.tell(change);
  const onExpiry = (key: string): void => {
    // Nobody waits for it. What is not written now expires again after a restart.
    file?.append({ op: 'remove', key }).catch(() => undefined);
  };
  const documents = new DocumentTable(settings, { onChange, onExpiry });
  if (settings.dataFile !== undefined) {
    file = await DocumentFile.open(settings.dataFile, {
      logger: settings.logger,
      snapshot: () => recordsOf(documents),
      replay: (record) => {
        if (record.op === 'put') documents.restore(record.key, record.value, record.lease);
        else documents.remove(record.key);
      },
    }).catch((error: unknown) => {
      documents.close();
      throw error;
    });
  }
  return { documents, streams, file };
}

function* recordsOf(documents: DocumentTable): Iterable<DocumentRecord> {
  for (const [key, value, lease] of documents.entries()) yield { op: 'put', key, value, lease };
}

async function closeParts({ documents, streams, file }: Parts): Promise<void> {
  documents.close();
  streams.close();
  await file?.close();
}

function listen(server: Server, settings: ServerSettings): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (cause: Error) =>
      reject(
        new EngineError(
          'ERR_TE_PORT_UNAVAILABLE',
          `the metadata server cannot listen on ${settings.host} port ${settings.port} ` +
            `(${cause.message}); choose another port, or 0`,
          { cause, details: { host: settings.host, port: settings.port } },
        ),
      );
    server.once('error', onError);
    server.listen({ host: settings.host, port: settings.port }, () => {
      server.removeListener('error', onError);
      // An accept error of a running server (no more descriptors) must not end the process.
      server.on('error', (error) => settings.logger.warn({ err: error }, 'metadata listener'));
      resolve();
    });
  });
}

async function closeServer(server: Server, graceMs: number, parts: Parts): Promise<void> {
  // Streams have no end of their own to wait for.
  parts.streams.close();
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => server.closeAllConnections(), graceMs);
    server.close(() => {
      clearTimeout(timer);
      resolve();
    });
  });
  await closeParts(parts);
}
