/** The door for authors of transports: `@transfer-engine/core/transport`. */
export { systemClock, type CancelTimer, type Clock } from '../base/clock.ts';
export { deferred, type Deferred } from '../base/deferred.ts';
export { EngineError, invalidArgument, type EngineErrorOptions } from '../base/errors.ts';
export type { ErrorCode } from '../base/error-codes.ts';
export { invariant } from '../base/invariant.ts';
export { silentLogger, type Logger } from '../base/logger.ts';
export { seededRandom, systemRandom, type Random } from '../base/random.ts';
export { highWord, joinWords, lowWord } from '../base/u64.ts';
export { AddressSpace } from '../memory/address-space.ts';
export { BufferStore, toBuffer, type MemoryLike } from '../memory/buffer-store.ts';
export type { ByteStore } from '../memory/byte-store.ts';
export { MemoryRegistry, type LocalWindow, type RegionRequest } from '../memory/memory-registry.ts';
export type { Permission, RemoteAccess } from '../memory/permission.ts';
export { RegisteredRegion } from '../memory/registered-region.ts';
export type {
  BufferDescriptor,
  BufferDraft,
  DeviceDescriptor,
  EngineExtras,
  SegmentDescriptor,
  SegmentDraft,
} from '../segment/segment-descriptor.ts';
export { Outcome, OUTCOME_NAMES, type Aftermath } from './outcome.ts';
export { RailScheduler } from './rail-scheduler.ts';
export { Opcode, Slice, type SliceRun } from './slice.ts';
export { SliceQueue } from './slice-queue.ts';
export type {
  AllocatedMemory,
  AllocateRequest,
  CompletionSink,
  Peer,
  Route,
  Transport,
  TransportCapabilities,
  TransportFactory,
  TransportHost,
} from './transport.ts';
