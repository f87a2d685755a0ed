import { Cluster, Redis, type ClusterOptions, type RedisOptions } from 'ioredis';
import type { RedisStoreOptions, RedisTarget } from './redis-options.ts';

const CONNECT_MS = 1_500;
const RETRY_MS_MAX = 1_000;

/** Random, so that a thousand engines do not come back at once to a server that was restarted. */
const retryMs = (attempt: number): number =>
  Math.min(RETRY_MS_MAX, 50 * 2 ** Math.min(attempt, 10)) * (0.5 + 0.5 * Math.random());

export type RedisClient = Redis | Cluster;

/** A client that does not connect yet, and whose commands fail instead of waiting in a queue. */
export function createClient(target: RedisTarget, options: RedisStoreOptions): RedisClient {
  const { topology, endpoints, masterName, secure } = target;
  const tls = secure ? { tls: { ...options.tls } } : {};
  const common = {
    ...tls,
    ...(target.username === undefined ? {} : { username: target.username }),
    ...(target.password === undefined ? {} : { password: target.password }),
    db: target.db,
    // Replies are the same with both, and every server has this one.
    protocol: 2,
    lazyConnect: true,
    connectTimeout: CONNECT_MS,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    retryStrategy: retryMs,
    disableClientInfo: true,
  } satisfies RedisOptions;
  if (topology === 'cluster') {
    const clusterOptions = {
      lazyConnect: true,
      enableOfflineQueue: false,
      clusterRetryStrategy: retryMs,
      redisOptions: common,
    } satisfies ClusterOptions;
    return new Cluster([...endpoints], clusterOptions);
  }
  if (topology === 'sentinel') {
    return new Redis({
      ...common,
      sentinels: [...endpoints],
      name: masterName,
      sentinelRetryStrategy: retryMs,
      ...(secure ? { enableTLSForSentinelMode: true, sentinelTLS: { ...options.tls } } : {}),
      ...(options.sentinelUsername === undefined
        ? {}
        : { sentinelUsername: options.sentinelUsername }),
      ...(options.sentinelPassword === undefined
        ? {}
        : { sentinelPassword: options.sentinelPassword }),
    });
  }
  return new Redis({ ...common, ...endpoints[0] });
}

/**
 * One connection, made when it is needed and again when it was lost.
 *
 * A call waits for a connection that is being made; when that fails it fails with the reason.
 */
export class RedisConnection {
  readonly client: RedisClient;
  #lastError: Error | undefined;

  constructor(client: RedisClient) {
    this.client = client;
    // Every call that waits for the connection listens to it.
    client.setMaxListeners(0);
    // Of Cluster: the reasons of single nodes are inside.
    client.on('error', (error: Error) => {
      this.#lastError = innermost(error);
    });
    client.on('node error', (error: Error) => {
      this.#lastError = innermost(error);
    });
  }

  /** Resolves when commands can be sent. */
  async ready(signal: AbortSignal): Promise<void> {
    const { client } = this;
    if (client.status === 'ready') return;
    this.#lastError = undefined;
    const settled = this.#settled(signal);
    if (client.status === 'wait' || client.status === 'end' || client.status === 'close') {
      client.connect().catch((error: unknown) => {
        if (error instanceof Error) this.#lastError ??= innermost(error);
      });
    }
    await settled;
  }

  close(): void {
    this.client.disconnect();
  }

  #settled(signal: AbortSignal): Promise<void> {
    const { client } = this;
    return new Promise((resolve, reject) => {
      const end = () => {
        client.off('ready', onReady);
        client.off('close', onClose);
        client.off('reconnecting', onClose);
        client.off('end', onClose);
        signal.removeEventListener('abort', onAbort);
      };
      const onReady = () => {
        end();
        resolve();
      };
      const onClose = () => {
        // The error comes before or just after the end of its connection.
        setImmediate(() => {
          end();
          reject(this.#lastError ?? new Error('the connection was closed'));
        });
      };
      const onAbort = () => {
        end();
        reject(signal.reason as Error);
      };
      client.once('ready', onReady);
      for (const event of ['close', 'reconnecting', 'end']) client.once(event, onClose);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }
}

/** Whether the connection ended under a command that was sent. */
export function isConnectionLoss(error: unknown): boolean {
  return (
    error instanceof Error &&
    (/Connection is closed|Stream isn't writeable|max retries per request/i.test(error.message) ||
      ('code' in error && ['ECONNRESET', 'EPIPE', 'ECONNREFUSED'].includes(String(error.code))))
  );
}

function innermost(error: Error): Error {
  const nested: unknown = 'lastNodeError' in error ? error.lastNodeError : undefined;
  return nested instanceof Error ? nested : error;
}
