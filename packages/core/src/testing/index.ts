/** The door for tests of engines, transports and stores: `@transfer-engine/core/testing`. */
export { FakeClock } from './fake-clock.ts';
export {
  MemoryNetwork,
  MemoryTransport,
  memoryTransport,
  type MemoryTransportOptions,
} from './memory-transport.ts';
export { RecordingSink, type RecordedOutcome } from './recording-sink.ts';
export { createTestHost, type TestHostOverrides } from './test-host.ts';
export { TestRun, type SliceDescription } from './test-run.ts';
export { applicableCases, type ComplianceCase } from './compliance-case.ts';
export { storeCompliance } from './store-compliance.ts';
export type { StoreFixture, StoreRequirement } from './store-fixture.ts';
export { CheckedSink, checkedTransport, type CheckedSinkOptions } from './checked-sink.ts';
export {
  SimNetwork,
  STORMY_FAULTS,
  type SimFaults,
  type SimMember,
  type SimOptions,
  type Span,
} from './sim-network.ts';
export { ContentTags } from './content-tags.ts';
export { SliceLedger, type LedgerSlice } from './slice-ledger.ts';
export { SimClock } from './sim-clock.ts';
export type { SimControlOptions } from './sim-control.ts';
export type { SimStoreOptions } from './sim-store.ts';
export { SimWorld, type SimEngineOptions, type SimWorldOptions } from './sim-world.ts';
export { SimTransport, simTransport, type SimTransportOptions } from './sim-transport.ts';
export type { TransportCase } from './compliance-bench.ts';
export { transportCompliance } from './transport-compliance.ts';
export {
  describeSegment,
  pairFixture,
  type PairParts,
  type TargetObject,
  type TransportEnd,
  type TransportFixture,
  type TransportPair,
  type TransportRequirement,
} from './transport-fixture.ts';
