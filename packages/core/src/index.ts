export { createEngine } from './engine/create-engine.ts';
export { EngineError, type ErrorDetails } from './base/errors.ts';
export { ERROR_CODES, TaskState, type ErrorCode } from './base/error-codes.ts';
export type { Clock } from './base/clock.ts';
export type { Logger } from './base/logger.ts';
export type { Permission } from './memory/permission.ts';
export type { MemoryLike } from './memory/buffer-store.ts';
export type { MetadataStore } from './metadata/metadata-store.ts';
export { flightOf } from './engine/telemetry.ts';
export type { FlightEvent } from './base/flight-recorder.ts';
export {
  standardRetryPolicy,
  type AttemptFacts,
  type ByteRange,
  type DestinationReport,
  type RetryPolicy,
  type RetryStep,
} from './transfer/index.ts';
export type { TransportFactory } from './transport/transport.ts';
export type {
  AllocateOptions,
  Batch,
  BatchRequest,
  BatchStatus,
  ColumnResult,
  Columns,
  Engine,
  EngineLimits,
  EngineOptions,
  EngineStats,
  MemoryRegion,
  Notification,
  NotificationContent,
  OpcodeName,
  OpenOptions,
  Priority,
  RegisterOptions,
  Segment,
  SegmentBuffer,
  TaskStatus,
  TransferNotification,
  TransferOptions,
  TransferRequest,
  TransferResult,
  UnregisterOptions,
} from './engine/engine-api.ts';
