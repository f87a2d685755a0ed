export type { RedisStoreOptions } from './redis-options.ts';
export { RedisStore } from './redis-store.ts';
