import assert from 'node:assert/strict';
import type { SegmentDescriptor } from '../segment/segment-descriptor.ts';
import { Opcode } from '../transport/slice.ts';
import { transportCase, type TransportCase } from './compliance-bench.ts';
import { endingCases } from './compliance-ending.ts';
import { movingCases } from './compliance-moving.ts';
import { refusalCases } from './compliance-refusals.ts';
import { describeSegment } from './transport-fixture.ts';

/** Clause 5, and what a transport says about itself. */
const reachCases: readonly TransportCase[] = [
  transportCase('a route says where it leads and what may be posted', async (bench) => {
    const peer = bench.pair.peer(bench.target);
    const { transport } = bench.pair.initiator;
    const route = transport.reach(peer);
    assert.ok(route !== undefined, 'reach found no route to a peer of its own kind');
    assert.equal(route.peer, peer);
    assert.equal(route.transport.name, transport.name);
    assert.ok(route.sliceBytes >= 1, `sliceBytes is ${route.sliceBytes}`);
    assert.ok(['applied', 'sent'].includes(route.writeDurability), route.writeDurability);
    assert.equal(typeof transport.capabilities.needsRegisteredMemory, 'boolean');
    await bench.within(route.close(), 'close of a route');
  }),
  transportCase('a peer with other protocols is not reachable', async (bench) => {
    const foreign: SegmentDescriptor = {
      name: 'foreign',
      protocols: ['a-protocol-of-nobody'],
      tcpDataPort: 0,
      tcpProtoVersion: 1,
      buffers: [],
      devices: [],
      priorityMatrix: {},
    };
    const { transport } = bench.pair.initiator;
    assert.equal(transport.reach({ descriptor: foreign, host: '127.0.0.1' }), undefined);
    assert.equal(
      transport.reach({ descriptor: { ...foreign, protocols: [] }, host: '127.0.0.1' }),
      undefined,
    );
    await bench.quiet();
    assert.equal(bench.sink.total, 0);
  }),
  transportCase('reach waits for nobody: a silent address costs nothing', async (bench) => {
    const peer = bench.pair.peer(bench.target);
    const { transport } = bench.pair.initiator;
    // An address of the documentation range: nobody answers, and a look-up would take long.
    const silent = { ...peer, host: '192.0.2.1' };
    const routes = Array.from({ length: 100 }, () => transport.reach(silent));
    assert.equal(bench.sink.total, 0);
    await bench.within(
      Promise.all(routes.map((route) => route?.close())),
      'close of routes that were never used',
    );
  }),
  transportCase('a description is complete after start, and always the same', async (bench) => {
    const { protocols } = describeSegment(bench.target);
    assert.ok(protocols.length > 0 || bench.target.transport.name !== '', 'nothing was described');
    assert.deepEqual(describeSegment(bench.target), describeSegment(bench.target));
  }),
  transportCase('stats are numbers, and move', async (bench) => {
    const { transport } = bench.pair.initiator;
    const before = transport.stats?.() ?? {};
    const memory = await bench.register(1000);
    await bench.moveAll(bench.route(), [
      { opcode: Opcode.write, local: bench.local(1000, 1), address: memory.region.address },
    ]);
    const after = transport.stats?.() ?? {};
    for (const stats of [before, after]) {
      for (const [name, value] of Object.entries(stats)) {
        assert.ok(Number.isFinite(value), `${name} is ${String(value)}`);
      }
    }
    if (Object.keys(after).length > 0) assert.notDeepEqual(after, before, 'no counter moved');
  }),
];

/**
 * The suite for transports: the eight clauses of the contract of `Transport`, case by case.
 *
 * Give each case that applies (see `applicableCases`) a fixture, in any test runner.
 */
export const transportCompliance: readonly TransportCase[] = [
  ...reachCases,
  ...movingCases,
  ...refusalCases,
  ...endingCases,
];
