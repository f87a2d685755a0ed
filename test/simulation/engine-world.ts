import { EngineError } from '../../packages/core/src/base/errors.ts';
import { seededRandom, type Random } from '../../packages/core/src/base/random.ts';
import type {
  Engine,
  EngineLimits,
  EngineOptions,
  Segment,
} from '../../packages/core/src/index.ts';
import {
  SimWorld,
  STORMY_FAULTS,
  type SimFaults,
  type SimOptions,
  type SimWorldOptions,
} from '../../packages/core/src/testing/index.ts';
import { AREA_BYTES, MemoryOracle, PATTERN, UNTOUCHED, type Area } from './memory-oracle.ts';
import { NotifyOracle } from './notify-oracle.ts';

/** Bound of one control exchange, and of one call on the store, in these worlds. */
const CONTROL_MS = 400;
/** A store that does not keep its bound is given up this much later. */
const STORE_GRACE_MS = 500;
/** Finding a peer: two calls on the store. */
const LOCATE_MS = 2 * (CONTROL_MS + STORE_GRACE_MS);
/** A notification is sent three times at most, each time to an old and to a new address. */
export const NOTIFY_MS = 3 * (2 * CONTROL_MS + LOCATE_MS);
/** Two publications: one that runs, and the next one, which contains all since. */
const PUBLISH_MS = 2 * (CONTROL_MS + STORE_GRACE_MS);
/** Slices that are being served have a second when the user ends them, and 50 ms at a deadline. */
export const CANCEL_MS = 1_000 + 30;
/** Deadlines are looked at in ticks of 8 ms. */
export const DEADLINE_MS = 50 + 30;
const CLOSE_MS = 3_000 + 2 * STORE_GRACE_MS + CANCEL_MS;
/** Longer than anything that was planned lasts. */
const RUN_OUT_MS = 5_000;

/** One start of one engine. */
export interface Actor {
  readonly name: string;
  readonly engine: Engine;
  readonly areas: Area[];
  readonly segments: Map<string, Segment>;
  /** Killed: what it was doing never ends. */
  dead: boolean;
  /** It is being closed or drained: it starts nothing more. */
  leaving: boolean;
}

export interface Watched {
  readonly what: string;
  readonly actor: Actor;
  /** The call has ended by then. */
  boundMs: number;
  settled: boolean;
}

export interface WorldFacts {
  readonly calm: boolean;
  readonly asks: number;
  readonly completed: number;
  readonly notifications: number;
  readonly retries: number;
  readonly trace: string;
}

export interface EngineWorldOptions {
  readonly retryPolicy?: EngineOptions['retryPolicy'];
}

/** A world of some engines, what they promise, and what can happen to them. */
export class EngineWorld {
  readonly world: SimWorld;
  readonly memory = new MemoryOracle();
  readonly notified: NotifyOracle;
  readonly actors: Actor[] = [];
  /** Nothing goes wrong but back-pressure, and there is time: then everything has to complete. */
  readonly calm: boolean;
  readonly sliceBytes: number;
  readonly #random: Random;
  readonly #metadata: 'p2p' | 'store';
  readonly #options: EngineWorldOptions;
  readonly #watched = new Set<Watched>();
  #retries = 0;
  #nextNumber = 0;

  constructor(seed: number, options: EngineWorldOptions = {}) {
    this.#random = seededRandom(seed);
    this.#options = options;
    this.calm = this.chance(0.15);
    this.sliceBytes = this.pick([512, 1024, 4096]);
    this.#metadata = this.chance(0.4) ? 'store' : 'p2p';
    const onViolation = (message: string) => this.memory.check(false, message);
    this.world = new SimWorld(this.#random.uint32(), { ...this.#drawWorld(), onViolation });
    this.notified = new NotifyOracle(this.memory);
  }

  /** Starts engines with some memory each. */
  async begin(): Promise<void> {
    const count = 2 + this.below(3);
    for (let index = 0; index < count; index += 1) await this.start(`e${index}`);
  }

  async start(name: string): Promise<void> {
    const { retryPolicy } = this.#options;
    const options = { name, metadata: this.#metadata, limits: this.#drawLimits() };
    let engine: Engine;
    try {
      engine = await this.world.engine({ ...options, ...(retryPolicy && { retryPolicy }) });
    } catch (error) {
      // The store is down, or the name was started again already: that is an answer too.
      this.checkError(error, `starting ${name}`);
      // It may have taken notifications already; they went with it.
      this.notified.gone(this.world.segmentName(name));
      this.world.closed(name);
      return;
    }
    const actor: Actor = {
      name,
      engine,
      areas: [],
      segments: new Map(),
      dead: false,
      leaving: false,
    };
    this.actors.push(actor);
    await this.offer(actor);
  }

  /** Registers memory for peers: some to write to, some to read from. */
  async offer(actor: Actor): Promise<void> {
    for (const writable of [true, false]) {
      const memory = writable ? Buffer.alloc(AREA_BYTES, UNTOUCHED) : Buffer.from(PATTERN);
      const permission = writable ? 'global-read-write' : 'global-read-only';
      const boundMs = this.nowMs + PUBLISH_MS + 20;
      const registering = actor.engine.registerMemory(memory, { permission });
      try {
        const region = await this.watch(actor, 'registerMemory', boundMs, registering);
        actor.areas.push(this.memory.addArea(actor.name, region, writable));
      } catch (error) {
        this.checkError(error, 'registerMemory');
      }
    }
  }

  get nowMs(): number {
    return this.world.clock.nowMs();
  }

  /** Actors that take part. */
  get present(): Actor[] {
    return this.actors.filter(({ dead, leaving }) => !dead && !leaving);
  }

  /** Makes sure that a call ends within its bound, whatever happens. */
  watch<T>(actor: Actor, what: string, boundMs: number, call: Promise<T>): Promise<T> {
    const watched = this.watching(actor, what, boundMs);
    const mark = (): void => this.settle(watched);
    call.then(mark, mark);
    return call;
  }

  watching(actor: Actor, what: string, boundMs: number): Watched {
    const watched: Watched = { what, actor, boundMs, settled: false };
    this.#watched.add(watched);
    return watched;
  }

  /** Everything that an actor is doing may take until then: it was ended by somebody else. */
  extend(actor: Actor, boundMs: number): void {
    for (const watched of this.#watched) {
      if (watched.actor === actor) watched.boundMs = Math.max(watched.boundMs, boundMs);
    }
  }

  settle(watched: Watched): void {
    watched.settled = true;
    this.#watched.delete(watched);
    if (watched.actor.dead) return;
    this.memory.check(
      this.nowMs <= watched.boundMs,
      () => `${watched.what} ended at ${this.nowMs} ms, and had to by ${watched.boundMs} ms`,
    );
  }

  /** Errors are of the product's kind, and none says that the product is broken. */
  checkError(error: unknown, what: string): void {
    const known = error instanceof EngineError && error.code !== 'ERR_TE_INTERNAL';
    this.memory.check(known, () => `${what} failed with ${describe(error)}`);
  }

  plan(delayMs: number, work: () => Promise<void> | void): void {
    this.world.clock.schedule(delayMs, () => {
      const run = async (): Promise<void> => work();
      run().catch((error: unknown) => {
        this.memory.check(false, `an operation of the simulation failed: ${describe(error)}`);
      });
    });
  }

  /** Runs until every call has ended, or one should have; checks all that can be checked. */
  async finish(lastEventMs: number): Promise<WorldFacts> {
    await this.world.run(lastEventMs);
    while (this.memory.broken === undefined) {
      const open = [...this.#watched].filter(({ actor }) => !actor.dead);
      if (open.length === 0) break;
      for (const { what, boundMs } of open) {
        this.memory.check(boundMs >= this.nowMs, `${what} has not ended by ${boundMs} ms`);
      }
      const nextMs = Math.min(...open.map(({ boundMs }) => boundMs)) - this.nowMs;
      await this.world.run(Math.max(Math.min(nextMs + 1, 100), 1));
    }
    this.#throwIfBroken();
    await this.#tearDown();
    await this.world.run(RUN_OUT_MS);
    this.memory.checkEnd();
    const { ledger, clock } = this.world;
    this.memory.check(ledger.size === 0, `${ledger.size} slices are on their way at the end`);
    this.memory.check(clock.pendingTimers === 0, `${clock.pendingTimers} timers are left`);
    this.notified.checkEnd(this.actors, this.calm);
    this.#throwIfBroken();
    const { asks } = this.memory;
    return {
      calm: this.calm,
      asks: asks.length,
      completed: asks.filter(({ completed }) => completed).length,
      notifications: this.notified.received,
      retries: this.#retries,
      trace: `${this.world.traceHash} ${this.nowMs}`,
    };
  }

  #throwIfBroken(): void {
    const { broken } = this.memory;
    if (broken !== undefined) throw new Error(broken);
  }

  /** Everything is well again; then engines are emptied and closed, and must be empty. */
  async #tearDown(): Promise<void> {
    const { world } = this;
    world.store.setDown(false);
    const names = [...new Set(this.actors.map(({ name }) => name))];
    for (const a of names) {
      world.slowDown(a, 1);
      for (const b of names) if (a < b) world.heal(a, b);
    }
    const present = this.actors.filter(({ dead, leaving }) => !dead && !leaving);
    for (const actor of present) {
      this.#retries += actor.engine.stats().retries;
      for (const segment of actor.segments.values()) {
        await this.#inTime(actor, 'segment.close()', CANCEL_MS, segment.close());
      }
    }
    for (const actor of present) {
      for (const { region, closed } of actor.areas) {
        if (closed) continue;
        // Refused while anything uses the region: nothing may, by now.
        await this.#inTime(actor, 'unregister()', PUBLISH_MS + 20, region.unregister());
      }
      this.#checkEmpty(actor);
    }
    for (const actor of present) {
      await this.#inTime(actor, 'close()', CLOSE_MS, actor.engine.close());
      const timers = world.timersOf(actor.name);
      this.memory.check(timers === 0, `${actor.name} left ${timers} timers`);
      this.notified.take(actor);
      world.closed(actor.name);
    }
  }

  #checkEmpty(actor: Actor): void {
    const stats = actor.engine.stats();
    const counts = {
      tasksActive: stats.tasksActive,
      slicesInFlight: stats.slicesInFlight,
      regions: stats.regions,
      segments: stats.segments,
      owned: sum(stats.transports, 'owned'),
      routes: sum(stats.transports, 'routes'),
    };
    for (const [name, count] of Object.entries(counts)) {
      this.memory.check(count === 0, `${actor.name} is at rest, and has ${name} = ${count}`);
    }
  }

  async #inTime(actor: Actor, what: string, ms: number, call: Promise<void>): Promise<void> {
    const watched = this.watch(actor, what, this.nowMs + ms, call).catch((error: unknown) => {
      this.checkError(error, what);
      const busy = error instanceof EngineError && error.code === 'ERR_TE_BATCH_BUSY';
      this.memory.check(!busy, `${what} at the end: ${String(error)}`);
    });
    await this.world.until(watched, ms + 100).catch((error: unknown) => {
      this.memory.check(false, `${what} of ${actor.name} at the end: ${String(error)}`);
    });
    this.#throwIfBroken();
  }

  // ---- what there is

  #drawWorld(): SimWorldOptions {
    const networks = Array.from({ length: this.chance(0.3) ? 2 : 1 }, () => this.#drawNetwork());
    if (this.calm) return { networks };
    const scale = this.pick([0, 0.5, 1, 2]);
    return {
      networks,
      control: {
        connectFail: 0.03 * scale,
        questionLoss: 0.03 * scale,
        answerLoss: 0.08 * scale,
        slow: 0.05 * scale,
        slowMs: [1, 600],
      },
      store: { fail: 0.02 * scale, answerLoss: 0.02 * scale, hang: 0.01 * scale },
    };
  }

  #drawNetwork(): SimOptions {
    const scale = this.pick([0, 0.3, 1, 3]);
    const storm = Object.fromEntries(
      Object.entries(STORMY_FAULTS).map(([name, chance]: [string, number]) => [
        name,
        name === 'lateBytes' || name === 'closeAfterReject' ? chance : Math.min(chance * scale, 1),
      ]),
    ) as Partial<SimFaults>;
    return {
      lanesPerPeer: 1 + this.below(3),
      latencyMs: [0.05, 0.05 + this.below(5)],
      bytesPerMs: this.pick([1_000, 100_000]),
      queueSlices: this.pick([1, 3, 16, 256]),
      queueBytes: this.pick([2_000, 20_000, 1 << 20]),
      connectTimeoutMs: 20 + this.below(200),
      statusTimeoutMs: this.calm ? 10_000 : 100 + this.below(1000),
      stallMs: [1, 400],
      faults: this.calm ? { shortPost: 0.3, stall: 0.02 } : storm,
    };
  }

  #drawLimits(): Partial<EngineLimits> {
    return {
      controlTimeoutMs: CONTROL_MS,
      connectTimeoutMs: CONTROL_MS / 2,
      sliceBytes: this.sliceBytes,
      ...(this.chance(0.3) && { inFlightBytesPerPeer: 2_000 + this.below(20_000) }),
      ...(this.chance(0.3) && { pendingBytesPerPeer: 1 + this.below(8_000) }),
      ...(!this.calm && this.chance(0.15) && { inboxNotifications: 1 + this.below(3) }),
    };
  }

  // ---- chance

  below(limit: number): number {
    return Math.floor(this.#random.float() * limit);
  }

  chance(probability: number): boolean {
    return this.#random.float() < probability;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  /** A number that nobody else has in this world. */
  number(): number {
    this.#nextNumber += 1;
    return this.#nextNumber;
  }
}

function sum(
  transports: Readonly<Record<string, Readonly<Record<string, number>>>>,
  name: string,
): number {
  return Object.values(transports).reduce((total, each) => total + (each[name] ?? 0), 0);
}

export function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
