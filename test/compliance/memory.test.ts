import {
  applicableCases,
  MemoryNetwork,
  memoryTransport,
  pairFixture,
  transportCompliance,
  type MemoryTransportOptions,
} from '@transfer-engine/core/testing';
import { describe, it } from 'vitest';

const fixture = (options: MemoryTransportOptions) =>
  pairFixture(() => {
    const network = new MemoryNetwork();
    return {
      factory: () => memoryTransport(network, options),
      loseTarget: ({ transport }) => transport.close(),
    };
  });

const variants: Record<string, MemoryTransportOptions> = {
  'memory transport': {},
  'memory transport with a short queue': { queueSlices: 3 },
};

for (const [name, options] of Object.entries(variants)) {
  describe(name, () => {
    for (const { name: promise, run } of applicableCases(transportCompliance, [
      'applied-writes',
      'peer-loss',
    ])) {
      it(promise, () => run(fixture(options)));
    }
  });
}
