import {
  applicableCases,
  FakeClock,
  pairFixture,
  SimNetwork,
  simTransport,
  transportCompliance,
  type SimOptions,
} from '@transfer-engine/core/testing';
import { describe, it } from 'vitest';

/** Time that passes in a turn: enough for several steps of a slice, too little for most of them. */
const TURN_MS = 0.7;

const fixture = (seed: number, options: SimOptions) =>
  pairFixture(() => {
    const clock = new FakeClock();
    const network = new SimNetwork(seed, clock, options);
    return {
      factory: () => simTransport(network),
      host: { clock },
      async turn() {
        clock.advance(TURN_MS);
        await Promise.resolve();
      },
      loseTarget: ({ host }) => network.kill(host.segmentName),
      stallTarget({ host }) {
        network.partition('initiator', host.segmentName);
        return () => network.heal('initiator', host.segmentName);
      },
    };
  });

/** Faults that no promise of the contract forgives are left to the simulation suites. */
const harmless = { shortPost: 0.3, stall: 0.05, lateBytes: 0.5 };
const variants: readonly (readonly [string, number, SimOptions])[] = [
  ['simulated transport', 1, {}],
  ['simulated transport with stalls and short posts', 2, { faults: harmless }],
  [
    'simulated transport with short queues',
    3,
    { queueSlices: 5, lanesPerPeer: 3, faults: harmless },
  ],
  ['simulated transport in bulk', 5, { bulk: 'bytes' }],
  ['simulated transport in bulk, short queues', 6, { bulk: 'bytes', queueSlices: 3 }],
  ['simulated transport with one slow lane', 4, { lanesPerPeer: 1, bytesPerMs: 100_000 }],
];

for (const [name, seed, options] of variants) {
  describe(name, () => {
    for (const { name: promise, run } of applicableCases(transportCompliance, [
      'applied-writes',
      'peer-loss',
      'stall',
    ])) {
      it(promise, () => run(fixture(seed, options)));
    }
  });
}
