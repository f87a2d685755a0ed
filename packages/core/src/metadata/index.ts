/** The door for authors of metadata stores: `@transfer-engine/core/metadata`. */
export { systemClock, type CancelTimer, type Clock } from '../base/clock.ts';
export { EngineError, invalidArgument, type EngineErrorOptions } from '../base/errors.ts';
export { silentLogger, type Logger } from '../base/logger.ts';
export { systemRandom, type Random } from '../base/random.ts';
export type {
  LeaseOptions,
  MetadataLease,
  MetadataStore,
  MetadataWatch,
  StoreCallOptions,
  WatchEvent,
  WatchListener,
} from './metadata-store.ts';
export { MemoryDirectory, MemoryStore } from './memory-store.ts';
export { RefreshedLease, type LeaseOperations, type LeaseTimeSources } from './refreshed-lease.ts';
