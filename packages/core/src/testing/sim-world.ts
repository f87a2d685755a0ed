import { invariant } from '../base/invariant.ts';
import { seededRandom, type Random } from '../base/random.ts';
import type { ByteStore } from '../memory/byte-store.ts';
import { createEngine } from '../engine/create-engine.ts';
import type { Engine, EngineOptions, MemoryRegion } from '../engine/engine-api.ts';
import { EngineMemoryRegion } from '../engine/local-memory.ts';
import type { TransportFactory } from '../transport/transport.ts';
import { checkedTransport } from './checked-sink.ts';
import { ProcessClock, SimClock } from './sim-clock.ts';
import { SimControl, type SimControlOptions } from './sim-control.ts';
import { SimNetwork, type SimOptions, type Span } from './sim-network.ts';
import type { SimProcess } from './sim-process.ts';
import { SimStore, type SimStoreOptions } from './sim-store.ts';
import { simTransport } from './sim-transport.ts';
import { SliceLedger } from './slice-ledger.ts';

export interface SimWorldOptions {
  /** Data networks; engines reach each other over all of them, in this order. Default: one. */
  readonly networks?: readonly SimOptions[];
  readonly control?: SimControlOptions;
  readonly store?: SimStoreOptions;
  /** Timers fire at multiples of this many milliseconds. Default 0: at their exact times. */
  readonly tickMs?: number;
  /** Watches transports and slices for broken promises. Default true; off saves time. */
  readonly checked?: boolean;
  /** Called with every broken promise of a transport. Default: throws through `invariant`. */
  readonly onViolation?: (message: string) => void;
}

/** What a world decides for its engines; everything else is as for `createEngine`. */
export interface SimEngineOptions extends Omit<
  EngineOptions,
  'name' | 'host' | 'metadata' | 'clock' | 'random' | 'controlLinks' | 'environment' | 'rpcPort'
> {
  /** Host name of the engine: what the world's calls know it by. */
  readonly name: string;
  /** Where segments find each other. Default `p2p`; `store` is the world's metadata service. */
  readonly metadata?: 'p2p' | 'store';
}

/** Port that every engine of a world listens on in P2P mode. */
const CONTROL_PORT = 12_001;
/** Turns of the event loop that one moment of virtual time may take. */
const TURNS_MAX = 100_000;

class WorldProcess implements SimProcess {
  readonly name: string;
  readonly segmentName: string;
  readonly clock: ProcessClock;
  alive = true;

  constructor(name: string, segmentName: string, clock: ProcessClock) {
    this.name = name;
    this.segmentName = segmentName;
    this.clock = clock;
  }
}

/**
 * A simulated world of whole engines: the real code over simulated data networks, control ports
 * and metadata service, in virtual time.
 *
 * No socket, no real timer and no unseeded number is involved: the same seed and the same calls
 * give the same {@link SimWorld.traceHash} on every machine.
 */
export class SimWorld {
  readonly clock: SimClock;
  readonly random: Random;
  readonly networks: readonly SimNetwork[];
  readonly control: SimControl;
  readonly store: SimStore;
  /** Knows which slices are on their way. */
  readonly ledger: SliceLedger;
  readonly #transports: readonly TransportFactory[];
  readonly #processes = new Map<string, WorldProcess>();
  readonly #partitions = new Set<string>();
  readonly #tickMs: number;

  constructor(seed: number, options: SimWorldOptions = {}) {
    const { networks = [{}], checked = true, tickMs = 0, onViolation } = options;
    this.#tickMs = tickMs;
    this.clock = new SimClock(tickMs);
    this.random = seededRandom(seed);
    this.ledger = new SliceLedger(onViolation);
    this.networks = networks.map((given) => {
      const watched = checked ? { ledger: this.ledger, ...given } : given;
      return new SimNetwork(this.random.uint32(), this.clock, watched);
    });
    this.#transports = this.networks.map((network, index) => {
      const factory = simTransport(network, { name: `sim${index}` });
      if (!checked) return factory;
      return checkedTransport(factory, onViolation === undefined ? {} : { onViolation });
    });
    const first = this.networks[0];
    invariant(first !== undefined, 'a world has at least one network');
    const host = {
      clock: this.clock,
      chance: (probability: number) => first.chance(probability),
      draw: (span: Span) => first.draw(span),
      note: (event: string, ...facts: (string | number)[]) => first.note(event, ...facts),
      partitioned: (a: string, b: string) => this.#partitions.has(pairKey(a, b)),
    };
    this.control = new SimControl(host, options.control);
    this.store = new SimStore(host, options.store);
  }

  /**
   * Starts an engine with everything of the world put in. With a store the start takes virtual
   * time: `await world.until(world.engine(…))`. Under the name of an engine that was killed it is
   * that engine's restart.
   */
  engine(options: SimEngineOptions): Promise<Engine> {
    const { name, metadata = 'p2p', transports = this.#transports, ...given } = options;
    invariant(this.#processes.get(name)?.alive !== true, `${name} is running`);
    const segmentName = metadata === 'p2p' ? `${name}:${CONTROL_PORT}` : name;
    const process = new WorldProcess(name, segmentName, new ProcessClock(this.clock));
    this.#processes.set(name, process);
    this.networks[0]?.note('start', name);
    return createEngine({
      ...given,
      transports,
      name: segmentName,
      ...(metadata === 'store' && { host: name, metadata: this.store.open(process) }),
      clock: process.clock,
      random: seededRandom(this.random.uint32()),
      controlLinks: this.control.links(process),
      environment: {},
    });
  }

  /** Name of the segment of an engine, to be opened by others. */
  segmentName(name: string): string {
    return this.#process(name).segmentName;
  }

  /** Timers of the engine itself that wait; 0 after it was closed, or something leaks. */
  timersOf(name: string): number {
    return this.#process(name).clock.pendingTimers;
  }

  alive(name: string): boolean {
    return this.#processes.get(name)?.alive === true;
  }

  /**
   * Ends a process in the middle of whatever it does: its promises never settle, its timers never
   * fire, its ports are closed and its connections lost.
   */
  kill(name: string): void {
    const process = this.#process(name);
    if (!process.alive) return;
    process.alive = false;
    process.clock.die();
    for (const network of this.networks) network.kill(process.segmentName);
  }

  /** To be called after `engine.close()`: the name is free for another start. */
  closed(name: string): void {
    this.#process(name).alive = false;
  }

  /** Nothing passes between the two, in either direction, and neither notices. */
  partition(first: string, second: string): void {
    this.#partitions.add(pairKey(first, second));
    for (const network of this.networks) network.partition(...this.#segments(first, second));
  }

  heal(first: string, second: string): void {
    this.#partitions.delete(pairKey(first, second));
    for (const network of this.networks) network.heal(...this.#segments(first, second));
  }

  /** Data connections between the two are reset. */
  reset(first: string, second: string): void {
    for (const network of this.networks) network.reset(...this.#segments(first, second));
  }

  /** The engine reads and serves `factor` times slower; 1 ends this. */
  slowDown(name: string, factor: number): void {
    for (const network of this.networks) network.slowDown(this.#process(name).segmentName, factor);
  }

  /** Lets virtual time pass, and everything happen that falls due. */
  async run(virtualMs: number): Promise<void> {
    const endMs = this.clock.nowMs() + virtualMs;
    await quiet();
    for (;;) {
      const nextMs = this.clock.nextTimerMs;
      if (nextMs === undefined || nextMs > endMs) break;
      this.#step();
      await quiet();
    }
    this.clock.advance(Math.max(endMs - this.clock.nowMs(), 0));
    await quiet();
  }

  /**
   * Lets time pass until the promise is settled.
   *
   * @param limitMs virtual milliseconds after which it throws
   */
  async until<T>(promise: Promise<T>, limitMs = 3_600_000): Promise<T> {
    let settled = false;
    const mark = (): void => {
      settled = true;
    };
    promise.then(mark, mark);
    const endMs = this.clock.nowMs() + limitMs;
    await quiet();
    while (!settled) {
      const nextMs = this.clock.nextTimerMs;
      if (nextMs === undefined || nextMs > endMs) {
        throw new Error(`a promise is not settled after ${limitMs} virtual ms`);
      }
      this.#step();
      await quiet();
    }
    return promise;
  }

  /** The numbers that stand for a region's content, in worlds that move tags (`bulk: 'tags'`). */
  tagsOf(region: MemoryRegion): Float64Array {
    invariant(region instanceof EngineMemoryRegion, 'the region is one of an engine');
    const store: ByteStore = region.registered.store;
    return (this.networks[0] as SimNetwork).tags.of(store);
  }

  /** Identifies everything that happened so far. */
  get traceHash(): string {
    return this.networks.map(({ traceHash }) => traceHash).join('+');
  }

  /** The latest events of each network, oldest first. */
  get trace(): readonly string[] {
    return this.networks.flatMap((network) => [...network.trace, '--']);
  }

  /** Fires the timers of the next moment: one, or all of a tick. */
  #step(): void {
    this.clock.step();
    if (this.#tickMs === 0) return;
    const nowMs = this.clock.nowMs();
    while (this.clock.nextTimerMs === nowMs) this.clock.step();
  }

  #process(name: string): WorldProcess {
    const process = this.#processes.get(name);
    invariant(process !== undefined, `there is an engine named ${name} in this world`);
    return process;
  }

  #segments(first: string, second: string): [string, string] {
    return [this.#process(first).segmentName, this.#process(second).segmentName];
  }
}

const pairKey = (first: string, second: string): string =>
  first < second ? `${first}\n${second}` : `${second}\n${first}`;

/**
 * Promises, next ticks and turns of the event loop that engines wait for have passed, before time
 * moves on.
 */
async function quiet(): Promise<void> {
  let turn = 0;
  do {
    turn += 1;
    invariant(turn < TURNS_MAX, 'turns of the event loop plan each other without end');
    await new Promise<void>((resolve) => setImmediate(resolve));
  } while (process.getActiveResourcesInfo().includes('Immediate'));
}
