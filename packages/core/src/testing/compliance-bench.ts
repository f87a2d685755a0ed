import assert from 'node:assert/strict';
import { toBuffer } from '../memory/buffer-store.ts';
import { BufferStore } from '../memory/buffer-store.ts';
import type { Permission } from '../memory/permission.ts';
import type { RegisteredRegion } from '../memory/registered-region.ts';
import { Outcome, OUTCOME_NAMES } from '../transport/outcome.ts';
import type { Route } from '../transport/transport.ts';
import { CheckedSink } from './checked-sink.ts';
import type { ComplianceCase } from './compliance-case.ts';
import { RecordingSink } from './recording-sink.ts';
import { TestRun, type SliceDescription } from './test-run.ts';
import type {
  TargetObject,
  TransportEnd,
  TransportFixture,
  TransportPair,
  TransportRequirement,
} from './transport-fixture.ts';

export type TransportCase = ComplianceCase<TransportFixture, TransportRequirement>;

/** Turns that pass before something that must not happen counts as not happening. */
const QUIET_TURNS = 50;
/** Rounds in which replayed slices may be sent again. */
const REPLAY_ROUNDS_MAX = 20;

/** Registered memory of a target. */
export interface TargetMemory {
  readonly region: RegisteredRegion;
  readonly bytes: Buffer;
  /** Address of the byte at `offset`. */
  at(offset: number): number;
}

/** What every case works with: a pair, watched, and the steps that cases share. */
export class ComplianceBench {
  readonly pair: TransportPair;
  readonly sink: RecordingSink;
  readonly checked: CheckedSink;
  readonly #violations: readonly string[];
  readonly #waitLimitMs: number;

  constructor(
    pair: TransportPair,
    sink: RecordingSink,
    checked: CheckedSink,
    violations: readonly string[],
    waitLimitMs: number,
  ) {
    this.pair = pair;
    this.sink = sink;
    this.checked = checked;
    this.#violations = violations;
    this.#waitLimitMs = waitLimitMs;
  }

  get target(): TransportEnd {
    return this.pair.targets[0];
  }

  /** A watched route to a target. */
  route(target: TransportEnd = this.target): Route {
    const route = this.pair.initiator.transport.reach(this.pair.peer(target));
    assert.ok(route !== undefined, `reach found no route to ${target.host.segmentName}`);
    return this.checked.route(route);
  }

  /** Registers memory at a target, every byte `fill`. */
  async register(
    length: number,
    options: {
      readonly target?: TransportEnd;
      readonly permission?: Permission;
      readonly fill?: number;
      readonly address?: number;
    } = {},
  ): Promise<TargetMemory> {
    const { target = this.target, permission = 'global-read-write', fill = 0 } = options;
    const { store, bytes } = await this.#targetMemory(target, length);
    bytes.fill(fill);
    const [region] = target.host.registry.add([
      {
        store,
        permission,
        location: '*',
        ...(options.address !== undefined && { address: options.address }),
      },
    ]);
    assert.ok(region !== undefined, 'the registry added nothing');
    await target.transport.attach?.([region]);
    return { region, bytes, at: (offset) => region.address + offset };
  }

  #targetMemory(target: TransportEnd, length: number): Promise<TargetObject> {
    const special = this.pair.targetMemory?.(target, length);
    if (special !== undefined) return special;
    const store = new BufferStore(this.pair.memory(length));
    return Promise.resolve({ store, bytes: store.bytes });
  }

  /** Local memory of the initiator; with a seed, a pattern that no shift or other seed repeats. */
  local(length: number, seed?: number): Buffer {
    const bytes = toBuffer(this.pair.memory(length));
    if (seed !== undefined) fillPattern(bytes, seed);
    return bytes;
  }

  /** Waits until the condition holds; fails when it takes longer than anything may take. */
  async until(condition: () => boolean, what: () => string): Promise<void> {
    const { clock } = this.pair.initiator.host;
    const endMs = clock.nowMs() + this.#waitLimitMs;
    while (!condition()) {
      this.checkPromises();
      assert.ok(clock.nowMs() < endMs, `after ${this.#waitLimitMs} ms: ${what()}`);
      await this.pair.turn();
    }
  }

  /** Waits for a promise of the transport, with the same bound. */
  async within<T>(promise: Promise<T>, what: string): Promise<T> {
    let settled = false;
    const mark = (): void => {
      settled = true;
    };
    promise.then(mark, mark);
    await this.until(
      () => settled,
      () => `${what} has not ended`,
    );
    return promise;
  }

  /** Lets time pass in which nothing is supposed to happen. */
  async quiet(): Promise<void> {
    for (let turn = 0; turn < QUIET_TURNS; turn += 1) await this.pair.turn();
    this.checkPromises();
  }

  /** Posts runs until everything is taken and ended. After back-pressure it waits for a sign. */
  async drive(...work: readonly (readonly [Route, TestRun])[]): Promise<void> {
    const { sink } = this;
    for (;;) {
      for (const [route, run] of work) if (run.left > 0) route.post(run);
      const signs = sink.calls + sink.readyRoutes.length;
      if (work.every(([, run]) => sink.of(run).length >= run.size)) return;
      await this.until(
        () => sink.calls + sink.readyRoutes.length > signs,
        () =>
          `neither an outcome nor ready came; ${work.map(([, run]) => this.told(run)).join(', ')}`,
      );
    }
  }

  /** Waits until all that was taken from the runs has ended. */
  async settle(...runs: readonly TestRun[]): Promise<void> {
    await this.until(
      () => runs.every((run) => this.sink.of(run).length >= run.taken),
      () => `slices have no outcome; ${runs.map((run) => this.told(run)).join(', ')}`,
    );
  }

  /** Moves slices, sending again what is replayed, and returns the outcome of each. */
  async move(route: Route, slices: readonly SliceDescription[], name = 'run'): Promise<Outcome[]> {
    const outcomes = new Array<Outcome>(slices.length).fill(Outcome.replay);
    for (let round = 0; round < REPLAY_ROUNDS_MAX; round += 1) {
      const open = [...outcomes.keys()].filter((index) => outcomes[index] === Outcome.replay);
      if (open.length === 0) return outcomes;
      const run = new TestRun(
        open.map((index) => slices[index] as SliceDescription),
        name,
      );
      await this.drive([route, run]);
      this.sink.codesOf(run).forEach((code, place) => {
        outcomes[open[place] as number] = code;
      });
    }
    throw new assert.AssertionError({
      message: `${name}: slices were still replayed after ${REPLAY_ROUNDS_MAX} rounds`,
    });
  }

  /** Moves slices that have to go well. */
  async moveAll(route: Route, slices: readonly SliceDescription[], name = 'run'): Promise<void> {
    const outcomes = await this.move(route, slices, name);
    this.expectOnly(outcomes, [Outcome.ok], name);
  }

  expectOnly(outcomes: readonly Outcome[], allowed: readonly Outcome[], name = 'run'): void {
    outcomes.forEach((outcome, index) => {
      assert.ok(
        allowed.includes(outcome),
        `${name}: slice ${index} ended as ${nameOf(outcome)}; expected ${allowed.map(nameOf).join(' or ')}`,
      );
    });
  }

  checkPromises(): void {
    assert.deepEqual(this.#violations, [], 'the contract was broken');
  }

  told(run: TestRun): string {
    return `${run.name}: ${run.size} slices, ${run.taken} taken, ${this.sink.of(run).length} ended`;
  }
}

/** A case that gets a bench, after which all promises are checked and everything is closed. */
export function transportCase(
  name: string,
  check: (bench: ComplianceBench) => Promise<void>,
  requires: readonly TransportRequirement[] = [],
): TransportCase {
  return { name, requires, run: (fixture) => runOnBench(fixture, check) };
}

async function runOnBench(
  fixture: TransportFixture,
  check: (bench: ComplianceBench) => Promise<void>,
): Promise<void> {
  const violations: string[] = [];
  const sink = new RecordingSink();
  const checked = new CheckedSink(sink, {
    onViolation: (message) => violations.push(message),
  });
  const pair = await fixture.createPair(checked);
  const bench = new ComplianceBench(pair, sink, checked, violations, fixture.waitLimitMs ?? 20_000);
  try {
    await check(bench);
    await bench.quiet();
    await bench.within(pair.initiator.transport.close(), 'close of the initiator');
    assert.equal(checked.owned, 0, 'close resolved while slices had no outcome');
    await bench.quiet();
  } finally {
    await pair.dispose();
  }
}

export const nameOf = (outcome: Outcome): string => OUTCOME_NAMES[outcome] ?? String(outcome);

/** Bytes that differ for every seed and at every shift. */
export function fillPattern(bytes: Buffer, seed: number): void {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995) >>> 0;
  for (let index = 0; index < bytes.length; index += 1) {
    // xorshift32: cheap, and without a period that a test could meet.
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[index] = state & 0xff;
  }
}

/** Fails with the first place where the bytes differ, instead of printing megabytes. */
export function expectBytes(actual: Buffer, expected: Buffer, what: string): void {
  if (actual.equals(expected)) return;
  assert.equal(actual.length, expected.length, `${what}: lengths differ`);
  const index = actual.findIndex((byte, place) => byte !== expected[place]);
  assert.fail(
    `${what}: byte ${index} of ${actual.length} is ${actual[index]}, expected ${expected[index]}`,
  );
}
