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

const PART = 256 * 1024;
const PARTS = 48;
const POISON = 0xdd;

/** A run that is long enough to be ended in the middle, over all of `memory`. */
function longRun(opcode: Opcode, local: Buffer, memory: TargetMemory, name = 'the run'): TestRun {
  const slices = Array.from({ length: PARTS }, (_, part) => ({
    opcode,
    local,
    offset: part * PART,
    length: PART,
    address: memory.at(part * PART),
  }));
  return new TestRun(slices, name);
}

/**
 * Overwrites the local memory of every slice at the moment of its outcome, and later looks for
 * the overwritten bytes at the destination: clause 3.
 */
class MemoryWatch {
  readonly #bench: ComplianceBench;
  readonly #run: TestRun;
  readonly #opcode: Opcode;
  readonly #local: Buffer;
  readonly #memory: TargetMemory;
  /** The destination as it was at the outcome of each slice. */
  readonly #atOutcome: Buffer[] = [];
  /** Source and destination as they were before. */
  readonly #source: Buffer;
  readonly #before: Buffer;
  readonly stop: () => void;

  constructor(
    bench: ComplianceBench,
    run: TestRun,
    opcode: Opcode,
    local: Buffer,
    memory: TargetMemory,
  ) {
    this.#bench = bench;
    this.#run = run;
    this.#opcode = opcode;
    this.#local = local;
    this.#memory = memory;
    this.#source = Buffer.from(opcode === Opcode.read ? memory.bytes : local);
    this.#before = Buffer.from(opcode === Opcode.read ? local : memory.bytes);
    this.stop = bench.sink.onChange(() => this.#poison());
  }

  #poison(): void {
    const ended = this.#bench.sink.of(this.#run).length;
    for (let part = this.#atOutcome.length; part < ended; part += 1) {
      const near = this.#local.subarray(part * PART, (part + 1) * PART);
      const far = this.#memory.bytes.subarray(part * PART, (part + 1) * PART);
      this.#atOutcome.push(Buffer.from(this.#opcode === Opcode.read ? near : far));
      near.fill(POISON);
    }
  }

  /** After everything ended and some time passed: nothing moved any more. */
  check(): void {
    const records = this.#bench.sink.of(this.#run);
    const durable = this.#opcode === Opcode.read;
    records.forEach(({ aftermath, outcome }, part) => {
      const [from, to] = [part * PART, (part + 1) * PART] as const;
      const then = this.#atOutcome[part] as Buffer;
      if (aftermath.destination === 'untouched') {
        expectBytes(
          then,
          this.#before.subarray(from, to),
          `destination of untouched slice ${part}`,
        );
      }
      const applied = outcome === Outcome.ok ? 0 : (aftermath.appliedBytes ?? 0);
      expectBytes(
        then.subarray(0, applied),
        this.#source.subarray(from, from + applied),
        `what slice ${part} is said to have applied`,
      );
      if (durable) {
        const near = this.#local.subarray(from, to);
        expectBytes(near, Buffer.alloc(PART, POISON), `local memory of read ${part}`);
        return;
      }
      const far = this.#memory.bytes.subarray(from, to);
      assert.ok(
        far.indexOf(Buffer.alloc(64, POISON)) < 0,
        `the source of write ${part} was read after its outcome`,
      );
      // A write that was only sent may still arrive; one that is not quiescent as well.
      if (aftermath.destination === 'unknown' || (outcome === Outcome.ok && !this.#applied)) return;
      expectBytes(far, this.#atOutcome[part] as Buffer, `remote memory of write ${part}`);
    });
  }

  get #applied(): boolean {
    return this.#bench.route().writeDurability === 'applied';
  }
}

async function begin(bench: ComplianceBench, opcode: Opcode) {
  const memory = await bench.register(PART * PARTS);
  const local = bench.local(PART * PARTS, 20);
  if (opcode === Opcode.read) memory.bytes.set(bench.local(PART * PARTS, 21));
  const run = longRun(opcode, local, memory);
  const watch = new MemoryWatch(bench, run, opcode, local, memory);
  return { memory, local, run, watch, route: bench.route() };
}

const verb = (opcode: Opcode): string => (opcode === Opcode.read ? 'reads' : 'writes');

const cancelCases: readonly TransportCase[] = [Opcode.read, Opcode.write].flatMap((opcode) => [
  transportCase(
    `cancelled ${verb(opcode)} end soon, and touch nothing afterwards`,
    async (bench) => {
      const { run, watch, route } = await begin(bench, opcode);
      route.post(run);
      assert.ok(run.taken > 0, 'an idle route takes at least one slice');
      await bench.pair.turn();
      route.cancel(run, 50);
      route.cancel(run, 50);
      await bench.settle(run);
      await bench.quiet();
      watch.stop();
      bench.expectOnly(bench.sink.codesOf(run), [Outcome.ok, Outcome.canceled]);
      watch.check();
    },
  ),
  transportCase(`${verb(opcode)} that did not start can be cancelled at once`, async (bench) => {
    const { run, watch, route } = await begin(bench, opcode);
    route.post(run);
    route.cancel(run, 0);
    await bench.settle(run);
    await bench.quiet();
    watch.stop();
    const codes = bench.sink.codesOf(run);
    bench.expectOnly(codes, [Outcome.ok, Outcome.canceled]);
    assert.ok(
      codes.filter((code) => code === Outcome.ok).length <= codes.length / 2,
      'cancel came before anything could start, and most slices were served all the same',
    );
    watch.check();
  }),
  transportCase(
    `${verb(opcode)} that are served can be cancelled`,
    (bench) => cancelsStalled(bench, opcode),
    ['stall'],
  ),
]);

/** The peer serves nothing, so what is being served does not end by itself. */
async function cancelsStalled(bench: ComplianceBench, opcode: Opcode): Promise<void> {
  const { run, watch, route } = await begin(bench, opcode);
  const other = await bench.register(1);
  // A connection that works, so that the stall meets slices on their way.
  const probe = bench.local(1, 22);
  await bench.moveAll(route, [{ opcode: Opcode.write, local: probe, address: other.at(0) }]);
  const resume = bench.pair.stallTarget?.(bench.target);
  assert.ok(resume !== undefined, 'a fixture that can stall has stallTarget');
  try {
    route.post(run);
    await bench.quiet();
    route.cancel(run, 20);
    await bench.settle(run);
    bench.expectOnly(bench.sink.codesOf(run), [Outcome.ok, Outcome.canceled]);
    assert.ok(bench.sink.codesOf(run).includes(Outcome.canceled), 'nothing was cancelled');
  } finally {
    resume();
  }
  await bench.quiet();
  watch.stop();
  watch.check();
  await bench.moveAll(route, [{ opcode: Opcode.write, local: probe, address: other.at(0) }]);
}

/** Clauses 3, 5, 6: how things end, and that nothing happens afterwards. */
export const endingCases: readonly TransportCase[] = [
  ...cancelCases,
  transportCase('cancelling one run does not fail another', async (bench) => {
    const memory = await bench.register(PART * PARTS);
    const kept = await bench.register(PART * PARTS);
    const local = bench.local(PART * PARTS, 23);
    const route = bench.route();
    const doomed = longRun(Opcode.write, local, memory, 'the cancelled run');
    const other = longRun(Opcode.write, local, kept, 'the other run');
    route.post(doomed);
    route.post(other);
    await bench.pair.turn();
    route.cancel(doomed, 10);
    await bench.settle(doomed, other);
    bench.expectOnly(bench.sink.codesOf(doomed), [Outcome.ok, Outcome.canceled], doomed.name);
    bench.expectOnly(bench.sink.codesOf(other), [Outcome.ok, Outcome.replay], other.name);
    const slices = Array.from({ length: PARTS }, (_, part) => ({
      opcode: Opcode.write,
      local,
      offset: part * PART,
      length: PART,
      address: kept.at(part * PART),
    })).filter((_, part) => bench.sink.codesOf(other)[part] !== Outcome.ok);
    await bench.moveAll(route, slices, 'what was replayed');
    expectBytes(kept.bytes, local, 'memory of the other run');
  }),
  transportCase('cancelling what has ended, or was never posted, does nothing', async (bench) => {
    const memory = await bench.register(64);
    const local = bench.local(64, 24);
    const route = bench.route();
    const slice = { opcode: Opcode.write, local, address: memory.region.address };
    const ended = new TestRun([slice]);
    await bench.drive([route, ended]);
    route.cancel(ended, 0);
    route.cancel(new TestRun([slice]), 0);
    await bench.quiet();
    assert.equal(bench.sink.total, 1);
    await bench.moveAll(route, [slice]);
  }),
  transportCase('a run that was cancelled can be posted again', async (bench) => {
    const memory = await bench.register(PART * PARTS);
    const local = bench.local(PART * PARTS, 25);
    const route = bench.route();
    const run = longRun(Opcode.write, local, memory);
    route.post(run);
    const before = run.taken;
    route.cancel(run, 10);
    await bench.settle(run);
    await bench.drive([route, run]);
    bench.expectOnly(bench.sink.codesOf(run).slice(before), [Outcome.ok], 'the second part');
    expectBytes(
      memory.bytes.subarray(before * PART),
      local.subarray(before * PART),
      'memory of the second part',
    );
  }),
  ...[Opcode.read, Opcode.write].map((opcode) =>
    transportCase(`close ends all ${verb(opcode)}, and nothing moves afterwards`, async (bench) => {
      const { run, watch, route, local, memory } = await begin(bench, opcode);
      route.post(run);
      await bench.pair.turn();
      const { taken } = run;
      await bench.within(route.close(), 'close of a route');
      assert.equal(bench.sink.of(run).length, taken, 'close resolved before every slice had ended');
      bench.expectOnly(bench.sink.codesOf(run), [Outcome.ok, Outcome.canceled]);
      assert.equal(route.post(run), 0, 'post takes nothing after close');
      assert.equal(run.taken, taken);
      assert.equal(route.post(longRun(opcode, local, memory, 'a late run')), 0);
      await bench.within(route.close(), 'a second close');
      await bench.quiet();
      watch.stop();
      watch.check();
    }),
  ),
  transportCase('close of the transport ends what all its routes own', async (bench) => {
    const { transport } = bench.pair.initiator;
    const memory = await bench.register(PART * PARTS);
    const local = bench.local(PART * PARTS, 26);
    const [first, second] = bench.pair.targets;
    const elsewhere = await bench.register(PART * PARTS, { target: second });
    const runs = [
      [bench.route(first), longRun(Opcode.write, local, memory, 'run to the first')],
      [bench.route(second), longRun(Opcode.read, bench.local(PART * PARTS), elsewhere, 'second')],
    ] as const;
    for (const [route, run] of runs) route.post(run);
    await bench.within(transport.close(), 'close of the transport');
    for (const [route, run] of runs) {
      assert.equal(bench.sink.of(run).length, run.taken, `${run.name} has not ended at close`);
      bench.expectOnly(bench.sink.codesOf(run), [Outcome.ok, Outcome.canceled], run.name);
      assert.equal(route.post(run), 0, 'post takes nothing after close');
    }
    await bench.within(transport.close(), 'a second close');
  }),
  transportCase('close of an idle route resolves', async (bench) => {
    await bench.within(bench.route().close(), 'close of an idle route');
    const used = bench.route();
    const memory = await bench.register(8);
    await bench.moveAll(used, [
      { opcode: Opcode.read, local: bench.local(8), address: memory.region.address },
    ]);
    await bench.within(used.close(), 'close of a route at rest');
    await bench.moveAll(bench.route(), [
      { opcode: Opcode.read, local: bench.local(8), address: memory.region.address },
    ]);
  }),
  transportCase('after detach nobody touches the region, and others are served', async (bench) => {
    const { memory, local, run, route } = await begin(bench, Opcode.write);
    const other = await bench.register(4096);
    route.post(run);
    await bench.pair.turn();
    const { host, transport } = bench.target;
    host.registry.retire(memory.region);
    await bench.within(transport.detach?.([memory.region]) ?? Promise.resolve(), 'detach');
    const frozen = Buffer.from(memory.bytes);
    await bench.settle(run);
    await bench.quiet();
    expectBytes(memory.bytes, frozen, 'the detached region');
    bench.expectOnly(bench.sink.codesOf(run), [
      Outcome.ok,
      Outcome.rejected,
      Outcome.peerLost,
      Outcome.replay,
    ]);
    await bench.moveAll(route, [
      { opcode: Opcode.write, local, length: 4096, address: other.region.address },
    ]);
    expectBytes(other.bytes, local.subarray(0, 4096), 'the other region');
  }),
  transportCase('a peer that dies ends what it owes, and no other peer notices', loses, [
    'peer-loss',
  ]),
  transportCase('a peer that is not there ends slices as failed to connect', async (bench) => {
    const memory = await bench.register(64);
    const peer = bench.pair.peer(bench.target);
    await bench.target.transport.close();
    const found = bench.pair.initiator.transport.reach(peer);
    if (found === undefined) return;
    const route = bench.checked.route(found);
    const slice = {
      opcode: Opcode.write,
      local: bench.local(64),
      address: memory.region.address,
    };
    const run = new TestRun([slice, slice, slice]);
    await bench.drive([route, run]);
    bench.expectOnly(bench.sink.codesOf(run), [Outcome.connectFailed, Outcome.peerLost]);
    const { error } = bench.sink.of(run)[0] ?? {};
    assert.ok(error !== undefined, 'a failure to connect says why');
  }),
];

async function loses(bench: ComplianceBench): Promise<void> {
  const [first, second] = bench.pair.targets;
  const { run, watch, route } = await begin(bench, Opcode.write);
  const other = await bench.register(PART * PARTS, { target: second });
  const local = bench.local(PART * PARTS, 27);
  const bystander = longRun(Opcode.write, local, other, 'the run to the other peer');
  const elsewhere = bench.route(second);
  route.post(run);
  elsewhere.post(bystander);
  await bench.pair.turn();
  await bench.pair.loseTarget?.(first);
  await bench.settle(run);
  bench.expectOnly(bench.sink.codesOf(run), [
    Outcome.ok,
    Outcome.peerLost,
    Outcome.replay,
    Outcome.connectFailed,
  ]);
  watch.stop();
  await bench.drive([elsewhere, bystander]);
  bench.expectOnly(bench.sink.codesOf(bystander), [Outcome.ok], bystander.name);
  expectBytes(other.bytes, local, 'memory of the other peer');
  const late = new TestRun([
    { opcode: Opcode.read, local: bench.local(8), address: other.region.address },
  ]);
  await bench.drive([route, late]);
  bench.expectOnly(bench.sink.codesOf(late), [
    Outcome.connectFailed,
    Outcome.peerLost,
    Outcome.replay,
  ]);
}
