import { EngineError, type MetadataStore } from '@transfer-engine/core/metadata';
import { parseConnectionString, type StoreKind } from './connection-string.ts';
import type { EtcdStoreOptions } from './etcd/etcd-endpoints.ts';
import type { HttpStoreOptions } from './http/http-store.ts';
import type { RedisStoreOptions } from './redis/redis-options.ts';

/** Options of every kind of store; each reads what concerns it. */
export interface OpenStoreOptions
  extends HttpStoreOptions, Omit<EtcdStoreOptions, 'tls'>, Omit<RedisStoreOptions, 'tls'> {
  /** PEM texts for TLS to etcd and Redis. Other authorities for HTTP: NODE_EXTRA_CA_CERTS. */
  readonly tls?: NonNullable<RedisStoreOptions['tls']>;
  /** For the variables MC_REDIS_*. Default: the process's. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
}

/**
 * Opens the metadata store that a URI names, as the C++ engine's connection strings do.
 *
 * `http://`, `https://`, `etcd://` (also without a scheme), `redis://`; beyond C++ `etcds://`,
 * `etcd+http://` and `etcd+https://` (etcd's JSON interface), `rediss://`, `redis+sentinel://` and
 * `redis+cluster://`. The client library (undici, etcd3, ioredis) is loaded when it is needed, not
 * before. Nothing is sent until the first call on the store. The caller closes it, or gives it to
 * an engine, which closes it.
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT` for text that names no store,
 * `ERR_TE_NOT_SUPPORTED_TRANSPORT` when the client library is not installed.
 */
export async function openStore(
  uri: string,
  options: OpenStoreOptions = {},
): Promise<MetadataStore> {
  const { scheme, kind, target } = parseConnectionString(uri);
  switch (kind) {
    case 'http': {
      const { HttpStore } = await load(kind, () => import('./http/http-store.ts'));
      return new HttpStore(uri, options);
    }
    case 'etcd': {
      const { EtcdStore } = await load(kind, () => import('./etcd/etcd-store.ts'));
      return new EtcdStore(scheme, target, options);
    }
    case 'etcd-gateway': {
      const { EtcdGatewayStore } = await load(kind, () => import('./etcd/etcd-gateway-store.ts'));
      return new EtcdGatewayStore(scheme, target, options);
    }
    case 'redis': {
      const { RedisStore } = await load(kind, () => import('./redis/redis-store.ts'));
      return new RedisStore(scheme, target, options, options.environment ?? process.env);
    }
  }
}

const LIBRARIES: Readonly<Record<StoreKind, string>> = {
  http: 'undici (version 7)',
  etcd: 'etcd3 (version 1)',
  'etcd-gateway': 'undici (version 7)',
  redis: 'ioredis (version 6)',
};

async function load<T>(kind: StoreKind, module: () => Promise<T>): Promise<T> {
  try {
    return await module();
  } catch (error) {
    const hint = kind === 'etcd' ? ', or use etcd+http:// with undici' : '';
    throw new EngineError(
      'ERR_TE_NOT_SUPPORTED_TRANSPORT',
      `${kind} metadata stores need the package ${LIBRARIES[kind]}; install it beside ` +
        `@transfer-engine/metadata${hint}`,
      { cause: error },
    );
  }
}
