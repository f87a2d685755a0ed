import { EngineError } from '../../packages/core/src/base/errors.ts';
import type {
  Batch,
  BatchRequest,
  BatchStatus,
  ColumnResult,
  MemoryRegion,
  Segment,
  TransferOptions,
} from '../../packages/core/src/index.ts';
import { TaskState } from '../../packages/core/src/base/error-codes.ts';
import {
  CANCEL_MS,
  DEADLINE_MS,
  EngineWorld,
  NOTIFY_MS,
  type Actor,
  type EngineWorldOptions,
  type Watched,
  type WorldFacts,
} from './engine-world.ts';
import { disturb } from './disturbances.ts';
import { AREA_BYTES, PATTERN, reportOf, UNTOUCHED, type Area, type Ask } from './memory-oracle.ts';
import type { Notice } from './notify-oracle.ts';

/** Far more than anything needs while everybody answers. */
const PATIENCE_MS = 600_000;
/** Two ticks of the deadlines of an engine. */
const TICK_MS = 16;

/** One call of a user, with everything that is known about it. */
interface Call {
  readonly actor: Actor;
  readonly asks: Ask[];
  readonly options: TransferOptions;
  readonly notice: Notice | undefined;
  readonly abort: AbortController | undefined;
  readonly reason: Error;
  readonly local: Buffer;
  watched: Watched | undefined;
  deadlineMs: number;
  /** The user has ended it. */
  canceled: boolean;
}

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

  constructor(sim: EngineWorld) {
    this.#sim = sim;
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

  // ---- what is asked

  #prepare(actor: Actor, target: Actor, rowsMax: number): Call | undefined {
    const sim = this.#sim;
    const rows = 1 + sim.below(rowsMax);
    const asks: Ask[] = [];
    const local = Buffer.from(PATTERN);
    let localOffset = sim.below(3);
    const longest = sim.chance(0.3) ? sim.sliceBytes * 5 : 600;
    const shares = rowsMax > 1 && sim.chance(0.1);
    for (let row = 0; row < rows; row += 1) {
      const length = sim.chance(0.05) ? 0 : 1 + sim.below(longest);
      if (localOffset + length > local.length) break;
      const stale = sim.chance(0.5) && !asks.some(({ bad }) => bad);
      const ask = this.#place(target, local, localOffset, length, stale);
      if (ask === undefined) break;
      if (!ask.isWrite) local.fill(UNTOUCHED, localOffset, localOffset + length);
      asks.push(ask);
      localOffset += length;
      const twin = shares ? this.#twinOf(ask, localOffset) : undefined;
      if (twin === undefined) continue;
      asks.push(twin);
      localOffset += twin.length;
    }
    if (asks.length === 0) return undefined;
    const timeoutMs = sim.calm ? PATIENCE_MS : this.#drawTimeoutMs();
    const notice = sim.chance(0.4) ? this.#noticeOf(actor, target) : undefined;
    const abort = sim.chance(0.3) ? new AbortController() : undefined;
    const on = sim.chance(0.6) ? 'settled' : 'completed';
    return {
      actor,
      asks,
      notice,
      abort,
      reason: new Error('the user has changed their mind'),
      local,
      watched: undefined,
      deadlineMs: 0,
      canceled: false,
      options: {
        timeoutMs,
        priority: sim.pick(['high', 'medium', 'low']),
        ...(shares && { overlap: 'allow' as const }),
        ...(!sim.calm && sim.chance(0.3) && { stallTimeoutMs: 20 + sim.below(500) }),
        ...(abort && { signal: abort.signal }),
        ...(notice && { notify: { name: notice.name, message: notice.message, on } }),
      },
    };
  }

  /** Another request for the second half of what a request writes to. */
  #twinOf(ask: Ask, localOffset: number): Ask | undefined {
    const { isWrite, bad, length, local, remoteOffset, address } = ask;
    const half = Math.floor(length / 2);
    const fits = localOffset + length - half <= local.length;
    if (!isWrite || bad || half === 0 || !fits || this.#sim.chance(0.5)) return undefined;
    ask.exclusive = half;
    return {
      ...ask,
      localOffset,
      length: length - half,
      remoteOffset: remoteOffset + half,
      address: address + BigInt(half),
      exclusive: 0,
    };
  }

  #noticeOf(actor: Actor, target: Actor): Notice {
    const sim = this.#sim;
    const to = sim.world.segmentName(target.name);
    return sim.notified.ask(`t${sim.number()}`, actor.engine.segmentName, to);
  }

  #drawTimeoutMs(): number {
    const sim = this.#sim;
    return sim.chance(0.3) ? 1 + sim.below(40) : 20 + sim.below(3000);
  }

  /** Finds a place at the target that nobody else writes to. */
  #place(
    target: Actor,
    local: Buffer,
    localOffset: number,
    length: number,
    stale: boolean,
  ): Ask | undefined {
    const sim = this.#sim;
    const isWrite = sim.chance(0.6);
    const areas = target.areas.filter(({ writable, closed }) => writable === isWrite && !closed);
    const area = sim.chance(0.03) ? undefined : areas.at(-1);
    const common = { isWrite, length, local, localOffset, exclusive: length };
    const fresh = { ended: false, completed: false, report: undefined, after: undefined };
    if (area === undefined) {
      // Nobody has memory there, or it was there once.
      const old = sim.memory.areas.filter(({ gone }) => gone);
      const gone: Area | undefined = stale && old.length > 0 ? sim.pick(old) : undefined;
      const address = gone?.region.address ?? BigInt(sim.number() * AREA_BYTES);
      return { ...common, ...fresh, area: gone, remoteOffset: 0, address, bad: length > 0 };
    }
    const remoteOffset = isWrite ? area.used : sim.below(area.bytes.length - length + 1);
    if (remoteOffset + length > area.bytes.length) return undefined;
    if (isWrite) area.used += length;
    const address = area.region.address + BigInt(remoteOffset);
    return { ...common, ...fresh, area, remoteOffset, address, bad: false };
  }

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
    const call = this.#prepare(actor, target, 1);
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
    const call = this.#prepare(actor, target, 20);
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
    const call = this.#prepare(actor, target, sim.chance(0.1) ? 100 : 20);
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
