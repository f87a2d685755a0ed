import { systemClock } from '../base/clock.ts';
import { EngineError } from '../base/errors.ts';
import { silentLogger } from '../base/logger.ts';
import { seededRandom } from '../base/random.ts';
import { AddressSpace } from '../memory/address-space.ts';
import { MemoryRegistry } from '../memory/memory-registry.ts';
import type { TransportHost } from '../transport/transport.ts';
import { RecordingSink } from './recording-sink.ts';

export type TestHostOverrides = Partial<TransportHost> & {
  /** Seed of `random`, and so of the addresses that the registry hands out. Default 1. */
  readonly seed?: number;
};

/**
 * What an engine lends to a transport, for tests of a transport alone.
 *
 * Listens on 127.0.0.1, logs nothing, takes no environment variables, keeps real time and repeats
 * its random numbers. A handshake fails with `ERR_TE_NOT_IMPLEMENTED` unless one is given.
 */
export function createTestHost(overrides: TestHostOverrides = {}): TransportHost {
  const { seed = 1, ...given } = overrides;
  const random = given.random ?? seededRandom(seed);
  return {
    clock: systemClock,
    random,
    logger: silentLogger,
    sink: new RecordingSink(),
    registry: given.registry ?? new MemoryRegistry(new AddressSpace(random)),
    segmentName: 'test',
    instance: 'test-instance',
    hostIdentity: 'test-host',
    strict: false,
    bindHost: '127.0.0.1',
    portRange: undefined,
    environment: {},
    handshake: (peer) =>
      Promise.reject(
        new EngineError(
          'ERR_TE_NOT_IMPLEMENTED',
          `this test host has no control port to reach ${peer.descriptor.name} through; pass "handshake"`,
        ),
      ),
    ...given,
  };
}
