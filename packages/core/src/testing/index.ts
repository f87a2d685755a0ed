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
export { storeCompliance, type StoreFixture } from './store-compliance.ts';
