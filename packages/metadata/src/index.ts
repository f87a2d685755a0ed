export {
  P2P_HANDSHAKE,
  parseConnectionString,
  type ConnectionString,
  type StoreKind,
  type StoreScheme,
} from './connection-string.ts';
export { openStore, type OpenStoreOptions } from './open-store.ts';
export type { EtcdStoreOptions, EtcdTls } from './etcd/etcd-endpoints.ts';
export type { RedisStoreOptions } from './redis/redis-options.ts';
export type { HttpStoreOptions } from './http/http-store.ts';
export {
  createMetadataServer,
  type MetadataServer,
  type MetadataServerOptions,
  type RpcMetaOverwrite,
} from './http-server/metadata-server.ts';
