/** The door for authors of metadata stores: `@transfer-engine/core/metadata`. */
export { EngineError, invalidArgument, type EngineErrorOptions } from '../base/errors.ts';
export { silentLogger, type Logger } from '../base/logger.ts';
export type { MetadataStore, StoreCallOptions } from './metadata-store.ts';
export { MemoryDirectory, MemoryStore } from './memory-store.ts';
