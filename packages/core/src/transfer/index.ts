/** Inner door of the room for the engine and for tests. */
export { findOverlap, findOverlapNow } from './overlap.ts';
export { PeerQueue, RouteState } from './peer-queue.ts';
export { RowColumns, RowColumnsPool } from './row-columns.ts';
export { Submission, type PriorityClass, type SubmissionColumns } from './submission.ts';
export { CANCEL_GRACE_MS, TransferMachine, type TransferMachineDeps } from './transfer-machine.ts';
export type { ByteRange, DestinationReport } from './row-damage.ts';
export {
  standardRetryPolicy,
  type AttemptFacts,
  type RetryPolicy,
  type RetryStep,
} from './retry.ts';
export type { TransferEvents } from './transfer-events.ts';
