import { EngineError } from '../../packages/core/src/base/errors.ts';
import type {
  Batch,
  BatchRequest,
  BatchStatus,
  ColumnResult,
  MemoryRegion,
  Segment,
} from '../../packages/core/src/index.ts';
import { TaskState } from '../../packages/core/src/base/error-codes.ts';
import {
  CANCEL_MS,
  DEADLINE_MS,
  EngineWorld,
  NOTIFY_MS,
  type Actor,
  type EngineWorldOptions,
  type WorldFacts,
} from './engine-world.ts';
import { CallMaker, type Call } from './call-maker.ts';
import { disturb } from './disturbances.ts';
import { reportOf } from './memory-oracle.ts';

/** Two ticks of the deadlines of an engine. */
const TICK_MS = 16;

/** Runs one seed: some engines, and users who do everything that can be done with them. */
export async function runEngineWorld(
  seed: number,
  options: EngineWorldOptions = {},
): Promise<WorldFacts> {
  const sim = new EngineWorld(seed, options);
  try {
    await sim.world.until(sim.begin());
    const lastEventMs = 20 + sim.below(400);
    const calls = 2 + sim.below(8);
    for (let index = 0; index < calls; index += 1) {
      sim.plan(sim.below(lastEventMs), () => new User(sim).act());
    }
    const events = sim.calm ? 0 : sim.below(6);
    for (let index = 0; index < events; index += 1) {
      sim.plan(sim.below(lastEventMs), () => disturb(sim));
    }
    return await sim.finish(lastEventMs);
  } catch (error) {
    const trace = process.env['TE_SEED'] === undefined ? [] : sim.world.trace;
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error([`seed ${seed}: ${reason}`, ...trace].join('\n'), { cause: error });
  }
}

class User {
  readonly #sim: EngineWorld;
  readonly #maker: CallMaker;

  constructor(sim: EngineWorld) {
    this.#sim = sim;
    this.#maker = new CallMaker(sim);
  }

  async act(): Promise<void> {
    const sim = this.#sim;
    const { present } = sim;
    if (present.length === 0) return;
    const actor = sim.pick(present);
    const target = sim.pick(present);
    if (sim.chance(0.1)) return this.#notify(actor, target);
    const segment = await this.#open(actor, target);
    if (segment === undefined || actor.leaving || actor.dead) return;
    if (sim.chance(0.15)) await this.#ready(actor, segment);
    if (actor.leaving || actor.dead) return;
    const kind = sim.below(4);
    if (kind === 0) await this.#single(actor, target, segment);
    else if (kind === 1) await this.#columns(actor, target, segment);
    else await this.#batch(actor, target, segment);
  }

  // ---- finding each other

  async #open(actor: Actor, target: Actor): Promise<Segment | undefined> {
    const sim = this.#sim;
    const { engine, segments } = actor;
    if (target.name === actor.name) return engine.localSegment;
    const name = sim.world.segmentName(target.name);
    const known = segments.get(name);
    if (known !== undefined && !sim.chance(0.1)) return known;
    const boundMs = sim.nowMs + 300 + 10;
    try {
      const opening = engine.openSegment(name, { timeoutMs: 300 });
      const segment = await sim.watch(actor, 'openSegment()', boundMs, opening);
      // Others may use the handle that is known; several may stand for one peer.
      segments.set(segments.has(name) ? `${name} ${sim.number()}` : name, segment);
      return segment;
    } catch (error) {
      if (!actor.leaving) sim.checkError(error, 'openSegment()');
      sim.memory.check(!sim.calm, `a segment could not be opened: ${String(error)}`);
      return undefined;
    }
  }

  async #ready(actor: Actor, segment: Segment): Promise<void> {
    const sim = this.#sim;
    const signal = new AbortController();
    const reason = new Error('waited long enough');
    const limitMs = 20 + sim.below(200);
    sim.plan(limitMs, () => signal.abort(reason));
    const boundMs = sim.nowMs + limitMs + 1;
    const ready = segment.ready({ signal: signal.signal });
    await sim.watch(actor, 'ready()', boundMs, ready).catch((error: unknown) => {
      const closed = error instanceof EngineError && error.code === 'ERR_TE_CLOSED';
      sim.memory.check(error === reason || closed, `ready() failed with ${String(error)}`);
    });
  }

  async #notify(actor: Actor, target: Actor): Promise<void> {
    const sim = this.#sim;
    const to = sim.world.segmentName(target.name);
    const { engine } = actor;
    const notice = sim.notified.ask(`n${sim.number()}`, engine.segmentName, to);
    const boundMs = sim.nowMs + NOTIFY_MS;
    const sending = engine.notify(to, { name: notice.name, message: notice.message });
    try {
      await sim.watch(actor, 'notify()', boundMs, sending);
      notice.fate = 'sent';
    } catch (error) {
      if (!actor.leaving) sim.checkError(error, 'notify()');
    }
  }

  // ---- the course of a call

  /** From here on the call runs; it has ended within its bound. */
  #begin(call: Call, what: string): void {
    const sim = this.#sim;
    const { actor, asks, options, notice, abort } = call;
    sim.memory.asks.push(...asks);
    const extraMs = notice === undefined ? 0 : NOTIFY_MS;
    call.deadlineMs = sim.nowMs + (options.timeoutMs ?? 0);
    call.watched = sim.watching(actor, what, call.deadlineMs + DEADLINE_MS + extraMs);
    if (abort !== undefined) {
      sim.plan(sim.below(sim.calm ? 20 : 200), () => {
        this.#expectEnd(call);
        abort.abort(call.reason);
      });
    }
  }

  /** The user ends a call: it is over within the bound for that. */
  #expectEnd(call: Call): void {
    const sim = this.#sim;
    const { watched, deadlineMs, notice } = call;
    call.canceled = true;
    // The engine looks at deadlines in ticks: a little later, it is the user who was first.
    const late = sim.nowMs >= deadlineMs + TICK_MS;
    if (watched === undefined || watched.settled || late) return;
    watched.boundMs = sim.nowMs + CANCEL_MS + (notice === undefined ? 0 : NOTIFY_MS);
  }

  // ---- calls

  async #single(actor: Actor, target: Actor, segment: Segment): Promise<void> {
    const sim = this.#sim;
    const call = this.#maker.prepare(actor, target, 1);
    const ask = call?.asks[0];
    if (call === undefined || ask === undefined) return;
    const { local, options } = call;
    const { localOffset, length, address: remoteAddress } = ask;
    const request = { segment, local, localOffset, length, remoteAddress };
    this.#begin(call, ask.isWrite ? 'write()' : 'read()');
    try {
      const { engine } = actor;
      const { bytes } = await (ask.isWrite
        ? engine.write(request, options)
        : engine.read(request, options));
      sim.memory.check(bytes === length, `${bytes} bytes of ${length} were moved, as it says`);
      sim.memory.ended(ask, true, undefined);
      this.#noteOutcome(call, 'completed', undefined);
    } catch (error) {
      if (actor.dead) return;
      const moved = error instanceof EngineError && error.details['transferCompleted'] === true;
      sim.memory.ended(ask, moved, moved ? undefined : reportOf(error, length));
      this.#checkReason(call, error, moved);
    } finally {
      if (call.watched !== undefined) sim.settle(call.watched);
    }
  }

  async #columns(actor: Actor, target: Actor, segment: Segment): Promise<void> {
    const sim = this.#sim;
    const call = this.#maker.prepare(actor, target, 20);
    if (call === undefined) return;
    const { asks, local, options } = call;
    const localRegion = await this.#register(actor, local);
    if (localRegion === undefined) return;
    if (actor.leaving) return this.#giveBack(actor, localRegion);
    const columns = {
      opcode: Uint8Array.from(asks, ({ isWrite }) => (isWrite ? 1 : 0)),
      localRegion,
      localOffset: Float64Array.from(asks, ({ localOffset }) => localOffset),
      remoteAddress: sim.chance(0.5)
        ? BigUint64Array.from(asks, ({ address }) => address)
        : Float64Array.from(asks, ({ address }) => Number(address)),
      length: Float64Array.from(asks, ({ length }) => length),
    };
    this.#begin(call, 'submitColumns()');
    // Rows are checked in turns of the event loop before time begins to count.
    if (call.watched !== undefined) call.watched.boundMs += 20;
    let result: ColumnResult | undefined;
    let failure: unknown;
    try {
      result = await actor.engine.submitColumns(segment, columns, options);
    } catch (error) {
      failure = error;
    }
    if (call.watched !== undefined) sim.settle(call.watched);
    if (actor.dead) return;
    const moved = failure instanceof EngineError && failure.details['transferCompleted'] === true;
    asks.forEach((ask, row) => {
      const completed = result?.states[row] === TaskState.completed || moved;
      sim.memory.ended(ask, completed, result?.destinations.get(row));
    });
    if (result === undefined) this.#checkReason(call, failure, moved);
    else {
      const { failed, completed, bytes } = result;
      const good = asks.filter((ask) => ask.completed);
      sim.memory.check(completed === good.length, `${completed} of ${good.length} completed`);
      sim.memory.check(failed === asks.length - good.length, `${failed} failed`);
      const moved = good.reduce((sum, { length }) => sum + length, 0);
      sim.memory.check(bytes >= moved, `${bytes} bytes, and ${moved} of rows that completed`);
      const outcome = failed === 0 ? 'completed' : 'failed';
      this.#noteOutcome(call, outcome, [...result.errors.values()][0]);
    }
    await this.#giveBack(actor, localRegion);
  }

  async #batch(actor: Actor, target: Actor, segment: Segment): Promise<void> {
    const sim = this.#sim;
    const call = this.#maker.prepare(actor, target, sim.chance(0.1) ? 100 : 20);
    if (call === undefined) return;
    const region = sim.chance(0.5) ? await this.#register(actor, call.local) : undefined;
    if (actor.leaving || actor.dead) return;
    await this.#runBatch(call, segment, region);
    if (region !== undefined) await this.#giveBack(actor, region);
  }

  async #runBatch(call: Call, segment: Segment, region: MemoryRegion | undefined): Promise<void> {
    const sim = this.#sim;
    const { actor } = call;
    const requests = call.asks.map((ask): BatchRequest => ({
      opcode: ask.isWrite ? 'write' : 'read',
      segment,
      local: region ?? call.local,
      localOffset: ask.localOffset,
      remoteAddress: ask.address,
      length: ask.length,
    }));
    const batch = actor.engine.createBatch(requests.length);
    this.#checkOverlapRefused(call, requests);
    this.#begin(call, 'a batch');
    try {
      batch.submit(requests, call.options);
    } catch (error) {
      this.#neverStarted(call, error);
      return;
    }
    this.#follow(call, batch);
    if (sim.chance(0.15)) {
      sim.plan(sim.below(200), async () => {
        if (actor.dead) return;
        this.#expectEnd(call);
        await batch.cancel(call.reason);
      });
    }
    const status = await batch.settled;
    if (call.watched !== undefined) sim.settle(call.watched);
    if (actor.dead) return;
    this.#observe(call, batch);
    this.#checkStatus(call, status);
    if (sim.chance(0.5)) batch.free();
  }

  /** Two requests for the same bytes are refused, and nothing of it happens. */
  #checkOverlapRefused({ asks, actor }: Call, requests: readonly BatchRequest[]): void {
    const sim = this.#sim;
    const index = asks.findIndex(({ isWrite, length, bad }) => isWrite && length > 1 && !bad);
    const request = requests[index];
    if (request === undefined || !sim.chance(0.2)) return;
    const other = { ...request, remoteAddress: request.remoteAddress + 1n };
    try {
      actor.engine.createBatch(2).submit([request, { ...other, length: 1 }]);
      sim.memory.check(false, 'a batch was taken that writes to the same bytes twice');
    } catch (error) {
      // Or for another reason, such as that nobody reaches the peer any more.
      sim.checkError(error, 'submit()');
    }
  }

  /** Looks at the requests of a running batch now and then, as users do. */
  #follow(call: Call, batch: Batch): void {
    const sim = this.#sim;
    if (call.watched?.settled === true || call.actor.dead) return;
    this.#observe(call, batch);
    sim.plan(0.5 + sim.below(10), () => this.#follow(call, batch));
  }

  #observe({ asks, watched, actor }: Call, batch: Batch): void {
    if (watched?.settled === true && asks.every(({ ended }) => ended)) return;
    if (actor.dead) return;
    asks.forEach((ask, index) => this.#sim.memory.observe(ask, batch.status(index)));
  }

  #neverStarted(call: Call, error: unknown): void {
    const sim = this.#sim;
    for (const ask of call.asks) {
      sim.memory.ended(ask, false, { state: 'untouched', appliedRanges: [], unknownRanges: [] });
    }
    if (call.watched !== undefined) sim.settle(call.watched);
    if (call.notice !== undefined) call.notice.fate = 'not-due';
    if (!call.actor.leaving && call.abort?.signal.aborted !== true) {
      sim.checkError(error, 'submit()');
    }
  }

  // ---- what has to hold when a call has ended

  #checkStatus(call: Call, status: BatchStatus): void {
    const { memory } = this.#sim;
    const completed = call.asks.filter((ask) => ask.completed).length;
    memory.check(
      call.asks.every(({ ended }) => ended),
      'a batch has settled, and not all of its requests have ended',
    );
    memory.check(status.completed === completed, `${status.completed} of ${completed} completed`);
    const failed = call.asks.length - completed;
    memory.check(status.failed === failed, `${status.failed} of ${failed} failed`);
    memory.check(
      (status.state === TaskState.completed) === (failed === 0),
      `a batch is ${status.state}, and ${failed} requests failed`,
    );
    memory.check((status.error === undefined) === (failed === 0), String(status.error));
    this.#noteOutcome(call, failed === 0 ? 'completed' : 'failed', status.error);
    const { notice } = call;
    if (notice !== undefined && status.notifyError !== undefined) notice.fate = 'unsure';
  }

  /** What a rejected promise says. */
  #checkReason(call: Call, error: unknown, moved: boolean): void {
    const sim = this.#sim;
    const { notice, options } = call;
    const aborted = error === call.reason;
    sim.memory.check(
      !aborted || call.abort?.signal.aborted === true,
      'a call ended as aborted, and nobody aborted it',
    );
    if (!aborted && !call.actor.leaving) sim.checkError(error, 'a transfer');
    if (!aborted && !moved) this.#expectGood(call, error);
    if (notice === undefined) return;
    if (moved) notice.outcome = 'completed';
    else notice.fate = options.notify?.on === 'settled' ? 'unsure' : 'not-due';
  }

  #noteOutcome(call: Call, outcome: 'completed' | 'failed', error: EngineError | undefined): void {
    const { notice, options } = call;
    if (outcome === 'failed') this.#expectGood(call, error);
    if (notice === undefined) return;
    if (outcome === 'completed') {
      notice.outcome = 'completed';
      notice.fate = 'sent';
      return;
    }
    notice.outcome = error?.code === 'ERR_TE_CANCELED' ? 'canceled' : 'failed';
    notice.fate = options.notify?.on === 'settled' ? 'due' : 'not-due';
  }

  /** Where nothing goes wrong, nothing fails but what has to. */
  #expectGood(call: Call, error: unknown): void {
    const sim = this.#sim;
    if (!sim.calm) return;
    for (const ask of call.asks) {
      const may = ask.completed || ask.bad || call.canceled;
      sim.memory.check(may, () => `nothing went wrong, and a request failed: ${String(error)}`);
    }
  }

  // ---- own memory

  async #register(actor: Actor, memory: Buffer): Promise<MemoryRegion | undefined> {
    const sim = this.#sim;
    try {
      return await actor.engine.registerMemory(memory, { permission: 'local-read-write' });
    } catch (error) {
      if (!actor.leaving) sim.checkError(error, 'registerMemory()');
      return undefined;
    }
  }

  async #giveBack(actor: Actor, region: MemoryRegion): Promise<void> {
    if (actor.dead || actor.leaving) return;
    const sim = this.#sim;
    const boundMs = sim.nowMs + 5;
    await sim.watch(actor, 'unregister()', boundMs, region.unregister()).catch((error: unknown) => {
      if (!actor.leaving) sim.checkError(error, 'unregister()');
    });
  }
}
