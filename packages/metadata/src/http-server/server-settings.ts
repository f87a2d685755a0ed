import { invalidArgument, silentLogger, type Logger } from '@transfer-engine/core/metadata';
import type { RpcMetaOverwrite } from './document-table.ts';

export interface MetadataServerOptions {
  /** Address to listen on. Default "127.0.0.1". */
  readonly host?: string;
  /** Default 8080, as the servers of the field; 0 lets the system choose. */
  readonly port?: number;
  /** Path that holds the documents. Default "/metadata". */
  readonly path?: string;
  /** File that keeps the documents over a restart; without one they are in memory only. */
  readonly dataFile?: string;
  /**
   * What every request but `GET /health` has to show: `Authorization: Bearer <token>`. C++ and
   * Python clients cannot send one. Without a token everybody is served.
   */
  readonly token?: string;
  /** Requests a second that one address may make; further ones are answered 429. Default no limit. */
  readonly requestsPerSecond?: number;
  /** Default "allow": an engine that comes back after a crash finds its place. */
  readonly rpcMetaOverwrite?: RpcMetaOverwrite;
  /** Status of a DELETE of what is not there. Default 404 (Python, C++); the Go server says 200. */
  readonly missingDeleteStatus?: 200 | 404;
  /** Largest value, in bytes. Default 128 MiB, the largest document that a C++ engine reads. */
  readonly maxValueBytes?: number;
  /** Largest number of keys. Default 1,000,000. */
  readonly maxKeys?: number;
  /** All keys and values together, in bytes. Default 1 GiB. */
  readonly maxTotalBytes?: number;
  /** Longest key, in characters. Default 4,096. */
  readonly maxKeyLength?: number;
  /** Connections at once. Default 4,096. */
  readonly maxConnections?: number;
  /** Time for a request to arrive as a whole, in milliseconds. Default 10,000. */
  readonly requestTimeoutMs?: number;
  /** Time that `close` gives to running requests, in milliseconds. Default 1,000. */
  readonly closeGraceMs?: number;
  readonly logger?: Logger;
}

type Given = 'dataFile' | 'token' | 'requestsPerSecond';

export type ServerSettings = Required<Omit<MetadataServerOptions, Given>> &
  Pick<MetadataServerOptions, Given>;

/** @throws EngineError `ERR_TE_INVALID_ARGUMENT` */
export function withDefaults(options: MetadataServerOptions): ServerSettings {
  const { dataFile, token, requestsPerSecond } = options;
  const settings: ServerSettings = {
    ...(dataFile === undefined ? {} : { dataFile }),
    ...(token === undefined ? {} : { token }),
    ...(requestsPerSecond === undefined ? {} : { requestsPerSecond }),
    host: options.host ?? '127.0.0.1',
    port: options.port ?? 8080,
    path: options.path ?? '/metadata',
    rpcMetaOverwrite: options.rpcMetaOverwrite ?? 'allow',
    missingDeleteStatus: options.missingDeleteStatus ?? 404,
    maxValueBytes: options.maxValueBytes ?? 128 * 1024 * 1024,
    maxKeys: options.maxKeys ?? 1_000_000,
    maxTotalBytes: options.maxTotalBytes ?? 1024 * 1024 * 1024,
    maxKeyLength: options.maxKeyLength ?? 4_096,
    maxConnections: options.maxConnections ?? 4_096,
    requestTimeoutMs: options.requestTimeoutMs ?? 10_000,
    closeGraceMs: options.closeGraceMs ?? 1_000,
    logger: options.logger ?? silentLogger,
  };
  check(settings);
  return settings;
}

function check(settings: ServerSettings): void {
  const { path, port, dataFile, token, requestsPerSecond } = settings;
  if (!/^\/[^?#\s]*$/.test(path))
    throw invalidArgument('path', path, 'a path that starts with / and has no ?, # or space');
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw invalidArgument('port', port, 'an integer from 0 to 65535');
  if (dataFile === '') throw invalidArgument('dataFile', dataFile, 'the path of a file');
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token))
    throw invalidArgument('token', '(hidden)', 'printable characters without blanks');
  for (const name of [
    'maxValueBytes',
    'maxKeys',
    'maxTotalBytes',
    'maxKeyLength',
    'maxConnections',
    'requestTimeoutMs',
    'closeGraceMs',
  ] as const)
    if (!Number.isSafeInteger(settings[name]) || settings[name] <= 0)
      throw invalidArgument(name, settings[name], 'a positive integer');
  if (
    requestsPerSecond !== undefined &&
    (!Number.isSafeInteger(requestsPerSecond) || requestsPerSecond <= 0)
  )
    throw invalidArgument('requestsPerSecond', requestsPerSecond, 'a positive integer');
}
