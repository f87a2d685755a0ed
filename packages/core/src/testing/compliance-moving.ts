import assert from 'node:assert/strict';
import { Outcome } from '../transport/outcome.ts';
import { Opcode } from '../transport/slice.ts';
import {
  expectBytes,
  transportCase,
  type ComplianceBench,
  type TransportCase,
} from './compliance-bench.ts';
import { TestRun, type SliceDescription } from './test-run.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

const SIZES: readonly number[] = [
  1,
  2,
  7,
  8,
  23,
  24,
  25,
  4 * KIB - 1,
  4 * KIB,
  4 * KIB + 1,
  64 * KIB - 1,
  64 * KIB,
  64 * KIB + 1,
  128 * KIB + 3,
  256 * KIB,
  MIB - 1,
  MIB + 1,
  8 * MIB,
];

/** Slices of these sizes one after the other, with odd gaps in local and remote memory. */
function layOut(
  sizes: readonly number[],
  opcode: Opcode,
  local: Buffer,
  address: number,
): SliceDescription[] {
  let offset = 1;
  let remote = 3;
  return sizes.map((length) => {
    const slice = { opcode, local, offset, length, address: address + remote };
    offset += length + 5;
    remote += length + 11;
    return slice;
  });
}

const footprint = (sizes: readonly number[]): number =>
  sizes.reduce((sum, size) => sum + size + 16, 16);

async function movesEverySize(bench: ComplianceBench, opcode: Opcode): Promise<void> {
  const length = footprint(SIZES);
  const target = await bench.register(length, { fill: 0xaa });
  const local = bench.local(length, 1);
  if (opcode === Opcode.read) target.bytes.set(local);
  const source = Buffer.from(opcode === Opcode.write ? local : target.bytes);
  if (opcode === Opcode.read) local.fill(0xaa);
  const expected = Buffer.alloc(length, 0xaa);
  const slices = layOut(SIZES, opcode, local, target.region.address);
  for (const { offset = 0, length: size = 0, address } of slices) {
    const at = Number(address) - target.region.address;
    if (opcode === Opcode.write) source.copy(expected, at, offset, offset + size);
    else source.copy(expected, offset, at, at + size);
  }
  await bench.moveAll(bench.route(), slices);
  // Everything between the slices is compared as well.
  expectBytes(opcode === Opcode.write ? target.bytes : local, expected, 'destination');
  expectBytes(opcode === Opcode.write ? local : target.bytes, source, 'source');
}

/** Clauses 1, 2 and 4: what is taken, what comes back, and that the bytes are right. */
export const movingCases: readonly TransportCase[] = [
  transportCase('a run without slices takes nothing', async (bench) => {
    const route = bench.route();
    assert.equal(route.post(new TestRun([])), 0);
    await bench.quiet();
    assert.equal(bench.sink.total, 0);
  }),
  transportCase('writes of every size arrive, and nothing beside them changes', (bench) =>
    movesEverySize(bench, Opcode.write),
  ),
  transportCase('reads of every size arrive, and nothing beside them changes', (bench) =>
    movesEverySize(bench, Opcode.read),
  ),
  transportCase(
    'thousands of slices pass, with back-pressure where there is any',
    async (bench) => {
      const count = 20_000;
      const target = await bench.register(count * 3);
      const local = bench.local(count * 3, 2);
      const slices = Array.from({ length: count }, (_, index) => ({
        opcode: Opcode.write,
        local,
        offset: index * 3,
        length: 3,
        address: target.at((count - 1 - index) * 3),
      }));
      await bench.moveAll(bench.route(), slices);
      const expected = Buffer.concat(
        Array.from({ length: count }, (_, index) =>
          local.subarray((count - 1 - index) * 3, (count - index) * 3),
        ),
      );
      expectBytes(target.bytes, expected, 'reversed triples');
    },
  ),
  transportCase('a full route takes fewer, never throws, and takes more later', async (bench) => {
    const size = 256 * KIB;
    const target = await bench.register(size);
    const local = bench.local(size, 3);
    const runs = Array.from(
      { length: 200 },
      (_, index) =>
        new TestRun(
          [{ opcode: Opcode.write, local, address: target.region.address }],
          `run ${index}`,
        ),
    );
    const route = bench.route();
    await bench.drive(...runs.map((run) => [route, run] as const));
    for (const run of runs) bench.expectOnly(bench.sink.codesOf(run), [Outcome.ok], run.name);
    expectBytes(target.bytes, local, 'destination');
  }),
  transportCase('several runs on one route are mixed, and each is whole', async (bench) => {
    const size = 5 * KIB + 1;
    const perRun = 20;
    const runs = 8;
    const target = await bench.register(size * perRun * runs);
    const local = bench.local(target.region.length, 4);
    const route = bench.route();
    const work = Array.from({ length: runs }, (_, run) => {
      const slices = Array.from({ length: perRun }, (_unused, index) => {
        const at = (index * runs + run) * size;
        return {
          opcode: Opcode.write,
          local,
          offset: at,
          length: size,
          address: target.at(at),
        };
      });
      return [route, new TestRun(slices, `run ${run}`)] as const;
    });
    await bench.drive(...work);
    for (const [, run] of work) bench.expectOnly(bench.sink.codesOf(run), [Outcome.ok], run.name);
    expectBytes(target.bytes, local, 'destination');
  }),
  transportCase('reads and writes in one run are served in order', async (bench) => {
    const size = 70_001;
    const rounds = 10;
    const target = await bench.register(size);
    const written = bench.local(size * rounds, 5);
    const read = bench.local(size * rounds);
    const slices = Array.from({ length: rounds * 2 }, (_, index) => ({
      opcode: index % 2 === 0 ? Opcode.write : Opcode.read,
      local: index % 2 === 0 ? written : read,
      offset: (index >> 1) * size,
      length: size,
      address: target.region.address,
    }));
    // One at a time: two slices of one run may be served at the same time by different lanes.
    const route = bench.route();
    for (const slice of slices) await bench.moveAll(route, [slice]);
    expectBytes(read, written, 'what was read back');
  }),
  ...[Opcode.read, Opcode.write].map((opcode) =>
    transportCase(
      `at the moment of its ok, the bytes of a ${opcode === Opcode.read ? 'read' : 'write'} are there`,
      (bench) => bytesAreThereAtOk(bench, opcode),
      opcode === Opcode.write ? ['applied-writes'] : [],
    ),
  ),
  transportCase(
    'every taken slice has one outcome, in order, among refused ones',
    async (bench) => {
      const target = await bench.register(4096);
      const local = bench.local(4096, 6);
      const beyond = target.region.end + 64;
      const count = 60;
      const isBad = (index: number): boolean => index % 7 === 3;
      const outcomes = await bench.move(
        bench.route(),
        Array.from({ length: count }, (_, index) => ({
          opcode: Opcode.write,
          local,
          offset: index,
          length: 1,
          address: isBad(index) ? beyond : target.at(index),
        })),
      );
      outcomes.forEach((outcome, index) => {
        bench.expectOnly(
          [outcome],
          [isBad(index) ? Outcome.rejected : Outcome.ok],
          `slice ${index} of the run`,
        );
        assert.equal(target.bytes[index], isBad(index) ? 0 : local[index], `byte ${index}`);
      });
    },
  ),
  transportCase('two peers are served at once, and not mixed up', async (bench) => {
    const [first, second] = bench.pair.targets;
    const size = 100_003;
    const parts = 12;
    const memories = [
      await bench.register(size * parts, { target: first }),
      await bench.register(size * parts, { target: second }),
    ];
    const work = memories.map((memory, index) => {
      const local = bench.local(size * parts, 7 + index);
      const run = new TestRun(
        Array.from({ length: parts }, (_, part) => ({
          opcode: Opcode.write,
          local,
          offset: part * size,
          length: size,
          address: memory.at(part * size),
        })),
        `run to target ${index}`,
      );
      return { local, memory, run, route: bench.route(index === 0 ? first : second) };
    });
    await bench.drive(...work.map(({ route, run }) => [route, run] as const));
    for (const { run, memory, local } of work) {
      bench.expectOnly(bench.sink.codesOf(run), [Outcome.ok], run.name);
      expectBytes(memory.bytes, local, run.name);
    }
  }),
];

async function bytesAreThereAtOk(bench: ComplianceBench, opcode: Opcode): Promise<void> {
  const sizes = [1, 100, 4096, 65_537, 300_001, MIB + 7, 17];
  const length = footprint(sizes);
  const target = await bench.register(length);
  const local = bench.local(length, 8);
  if (opcode === Opcode.read) {
    target.bytes.set(local);
    local.fill(0);
  }
  const slices = layOut(sizes, opcode, local, target.region.address);
  const run = new TestRun(slices);
  let seen = 0;
  const problems: string[] = [];
  const stop = bench.sink.onChange(() => {
    for (; seen < bench.sink.of(run).length; seen += 1) {
      if (bench.sink.codesOf(run)[seen] !== Outcome.ok) continue;
      const { offset = 0, length: size = 0, address } = slices[seen] as SliceDescription;
      const at = Number(address) - target.region.address;
      const near = local.subarray(offset, offset + size);
      if (!near.equals(target.bytes.subarray(at, at + size))) {
        problems.push(`slice ${seen} of ${size} bytes was ok before its bytes were there`);
      }
    }
  });
  await bench.drive([bench.route(), run]);
  stop();
  bench.expectOnly(bench.sink.codesOf(run), [Outcome.ok]);
  assert.deepEqual(problems, []);
}
