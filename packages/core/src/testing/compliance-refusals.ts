import assert from 'node:assert/strict';
import { Outcome } from '../transport/outcome.ts';
import { Opcode } from '../transport/slice.ts';
import {
  expectBytes,
  transportCase,
  type ComplianceBench,
  type TargetMemory,
  type TransportCase,
} from './compliance-bench.ts';
import { TestRun } from './test-run.ts';

const REGION = 64 * 1024;

/** A slice that the target has to refuse. */
interface Refusal {
  readonly address: bigint | number;
  readonly length: number;
}

interface RefusalCase {
  readonly what: string;
  readonly opcodes: readonly Opcode[];
  /** Registers more memory if it needs it, and says what to ask for. */
  plant(bench: ComplianceBench, good: TargetMemory): Refusal | Promise<Refusal>;
}

const BOTH = [Opcode.read, Opcode.write];

const refusals: readonly RefusalCase[] = [
  {
    what: 'far outside of everything',
    opcodes: BOTH,
    plant: () => ({ address: 0x7fff_0000_0000, length: 4096 }),
  },
  { what: 'at address 0', opcodes: BOTH, plant: () => ({ address: 0, length: 1 }) },
  {
    what: 'right behind the end of a region',
    opcodes: BOTH,
    plant: (_, good) => ({ address: good.region.end, length: 1 }),
  },
  {
    what: 'right before the start of a region',
    opcodes: BOTH,
    plant: (_, good) => ({ address: good.region.address - 1, length: 1 }),
  },
  {
    what: 'one byte over the end of a region',
    opcodes: BOTH,
    plant: (_, good) => ({ address: good.at(REGION - 4095), length: 4096 }),
  },
  {
    what: 'one byte before the start, into a region',
    opcodes: BOTH,
    plant: (_, good) => ({ address: good.region.address - 1, length: 4096 }),
  },
  {
    what: 'more than a region is long, with a mebibyte of payload',
    opcodes: BOTH,
    plant: (_, good) => ({ address: good.region.address, length: 1024 * 1024 }),
  },
  {
    what: 'over the border of two regions that touch',
    opcodes: BOTH,
    async plant(bench) {
      const address = 2 ** 43;
      await bench.register(4096, { address });
      await bench.register(4096, { address: address + 4096 });
      return { address: address + 4000, length: 200 };
    },
  },
  {
    what: 'where address + length passes 2^64',
    opcodes: BOTH,
    plant: () => ({ address: 0xffff_ffff_ffff_fff0n, length: 64 }),
  },
  {
    what: 'at the last address there is',
    opcodes: BOTH,
    plant: () => ({ address: 0xffff_ffff_ffff_ffffn, length: 1 }),
  },
  {
    // 2^53 + 1 has no exact double; the low words alone would name a registered byte.
    what: 'beyond 2^53, with the low words of a good address',
    opcodes: BOTH,
    plant: (_, good) => ({ address: BigInt(good.region.address) | (1n << 63n), length: 16 }),
  },
  {
    what: 'beyond 2^53, a round number away from a good address',
    opcodes: BOTH,
    plant: (_, good) => ({ address: BigInt(good.region.address) + (1n << 53n), length: 16 }),
  },
  {
    what: 'that peers may only read',
    opcodes: [Opcode.write],
    async plant(bench) {
      const memory = await bench.register(4096, { permission: 'global-read-only' });
      return { address: memory.region.address, length: 4096 };
    },
  },
  {
    what: 'that is not for peers',
    opcodes: BOTH,
    async plant(bench) {
      const memory = await bench.register(4096, { permission: 'local-read-write' });
      return { address: memory.at(5), length: 100 };
    },
  },
  {
    what: 'that was unregistered',
    opcodes: BOTH,
    async plant(bench) {
      const memory = await bench.register(4096);
      bench.target.host.registry.retire(memory.region);
      await bench.target.transport.detach?.([memory.region]);
      return { address: memory.region.address, length: 4096 };
    },
  },
];

/**
 * Clause 8: a refused slice ends as `rejected` and changes nothing; its neighbours, in the same run
 * and in others, are served or replayed.
 */
async function refuses(
  bench: ComplianceBench,
  opcode: Opcode,
  plant: RefusalCase['plant'],
): Promise<void> {
  const good = await bench.register(REGION, { fill: 0x11 });
  const refusal = await plant(bench, good);
  const size = 1024;
  const local = bench.local(Math.max(REGION, refusal.length), 9);
  const untouched = Buffer.from(local);
  const slice = (index: number) => ({
    opcode: Opcode.write,
    local,
    offset: index * size,
    length: size,
    address: good.at(index * size),
  });
  const destination = bench.local(refusal.length);
  destination.fill(0x22);
  const bad = {
    opcode,
    local: opcode === Opcode.write ? local : destination,
    length: refusal.length,
    address: refusal.address,
  };
  const regions = [...bench.target.host.registry.regions()];
  const before = regions.map(({ store, length }) => {
    const copy = Buffer.alloc(length);
    void store.readInto(copy, 0);
    return copy;
  });

  const route = bench.route();
  const own = [slice(0), slice(1), bad, slice(2), slice(3)];
  const others = new TestRun([slice(4), slice(5), slice(6), slice(7)], 'the other run');
  const ownRun = new TestRun(own, 'the run with the refused slice');
  await bench.drive([route, ownRun], [route, others]);
  const codes = bench.sink.codesOf(ownRun);
  bench.expectOnly(codes.slice(2, 3), [Outcome.rejected], 'the refused slice');
  assert.notEqual(
    bench.sink.of(ownRun)[2]?.aftermath.destination,
    'unknown',
    'the destination of a refused slice does not change',
  );
  bench.expectOnly(
    codes.filter((_, index) => index !== 2),
    [Outcome.ok, Outcome.replay],
    'the run with the refused slice',
  );
  bench.expectOnly(bench.sink.codesOf(others), [Outcome.ok, Outcome.replay], 'the other run');
  const again = [
    ...own.filter((_, index) => codes[index] === Outcome.replay),
    ...[4, 5, 6, 7]
      .filter((_, index) => bench.sink.codesOf(others)[index] === Outcome.replay)
      .map(slice),
  ];
  await bench.moveAll(route, again, 'what was replayed');

  local.copy(before[regions.indexOf(good.region)] as Buffer, 0, 0, 8 * size);
  regions.forEach(({ store, length, address }, index) => {
    const after = Buffer.alloc(length);
    void store.readInto(after, 0);
    expectBytes(after, before[index] as Buffer, `the region at ${address}`);
  });
  expectBytes(local, untouched, 'the local memory');
  assert.ok(
    destination.every((byte) => byte === 0x22),
    'a refused read changed its destination',
  );
}

export const refusalCases: readonly TransportCase[] = [
  ...refusals.flatMap(({ what, opcodes, plant }) =>
    opcodes.map((opcode) =>
      transportCase(
        `a ${opcode === Opcode.read ? 'read' : 'write'} ${what} is refused, and nobody else notices`,
        (bench) => refuses(bench, opcode, plant),
      ),
    ),
  ),
  transportCase('what peers may only read, they may read', async (bench) => {
    const memory = await bench.register(10_000, { permission: 'global-read-only' });
    memory.bytes.set(bench.local(10_000, 10));
    const local = bench.local(10_000);
    await bench.moveAll(bench.route(), [
      { opcode: Opcode.read, local, address: memory.region.address },
    ]);
    expectBytes(local, memory.bytes, 'what was read');
  }),
  transportCase('the first and the last byte of a region can be moved', async (bench) => {
    const memory = await bench.register(5000);
    const local = bench.local(2, 11);
    const route = bench.route();
    await bench.moveAll(route, [
      { opcode: Opcode.write, local, offset: 0, length: 1, address: memory.region.address },
      { opcode: Opcode.write, local, offset: 1, length: 1, address: memory.region.end - 1 },
    ]);
    assert.equal(memory.bytes[0], local[0]);
    assert.equal(memory.bytes[4999], local[1]);
  }),
  transportCase('a route serves on after many refusals', async (bench) => {
    const memory = await bench.register(64);
    const local = bench.local(64, 12);
    const route = bench.route();
    for (let round = 0; round < 20; round += 1) {
      const outcomes = await bench.move(route, [
        { opcode: Opcode.write, local, address: memory.region.end },
      ]);
      bench.expectOnly(outcomes, [Outcome.rejected]);
    }
    await bench.moveAll(route, [{ opcode: Opcode.write, local, address: memory.region.address }]);
    expectBytes(memory.bytes, local, 'destination');
  }),
];
