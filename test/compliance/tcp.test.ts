import { applicableCases, pairFixture, transportCompliance } from '@transfer-engine/core/testing';
import { tcp, type TcpOptions } from '@transfer-engine/transport-tcp';
import { describe, it } from 'vitest';

const fixture = (options: TcpOptions) =>
  pairFixture(() => ({
    factory: () => tcp(options),
    loseTarget: ({ transport }) => transport.close(),
  }));

const variants: Record<string, TcpOptions> = {
  'TCP transport': {},
  'TCP transport that copies what it reads': { directRead: false },
  'TCP transport with short queues': { lanesPerPeer: 3, laneSlices: 4, laneBytes: 300_000 },
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
