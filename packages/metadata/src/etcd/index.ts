export type { EtcdStoreOptions, EtcdTls } from './etcd-endpoints.ts';
export { EtcdStore } from './etcd-store.ts';
export { EtcdGatewayStore } from './etcd-gateway-store.ts';
