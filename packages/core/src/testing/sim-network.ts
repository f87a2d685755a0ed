import type { Clock } from '../base/clock.ts';
import { seededRandom, type Random } from '../base/random.ts';
import type { RegisteredRegion } from '../memory/registered-region.ts';
import type { TransportHost } from '../transport/transport.ts';
import { ContentTags } from './content-tags.ts';
import type { SliceLedger } from './slice-ledger.ts';

/** From, to; drawn evenly. */
export type Span = readonly [min: number, max: number];

export interface SimOptions {
  /** Connections to one peer. Runs on different ones overtake each other. Default 2. */
  readonly lanesPerPeer?: number;
  /** One way, in milliseconds, for each slice. Default [0.05, 1]. */
  readonly latencyMs?: Span;
  /** Default 1,000,000 = 1 GB/s. */
  readonly bytesPerMs?: number;
  /** Outcomes wait up to this long to be reported together. Default [0, 0.2]. */
  readonly reportDelayMs?: Span;
  readonly connectMs?: Span;
  /** A connection to a peer that does not answer fails after this. Default 500. */
  readonly connectTimeoutMs?: number;
  /** A slice that the peer does not answer ends as `timeout` after this. Default 30,000. */
  readonly statusTimeoutMs?: number;
  /** Back-pressure: bounds of what one route holds. Defaults 256 slices, 16 MiB. */
  readonly queueSlices?: number;
  readonly queueBytes?: number;
  /** Default 1 MiB. */
  readonly sliceBytes?: number;
  /** Time that a stalled slice loses. Default [1, 200]. */
  readonly stallMs?: Span;
  /** When bytes that were on their way land, after the outcome. Default [0, 100]. */
  readonly lateMs?: Span;
  /**
   * Serves whole queues with few timers, for worlds of many engines: faults by slice, lanes and
   * torn writes are left out. `tags` also leaves the bytes where they are, and moves a number for
   * each block of `tagBytes` instead (see {@link ContentTags}). Default off.
   */
  readonly bulk?: 'off' | 'bytes' | 'tags';
  /** Default 1 MiB. Ranges must start and end at multiples of it. */
  readonly tagBytes?: number;
  /** Finds slices that are on their way twice; one for all networks of a world. */
  readonly ledger?: SliceLedger;
  readonly faults?: Partial<SimFaults>;
}

/** Probabilities in [0, 1]: by slice, unless said otherwise. */
export interface SimFaults {
  /** The peer refuses an address that is fine. */
  readonly reject: number;
  /** The peer closes the connection after a refusal; what is queued is replayed. */
  readonly closeAfterReject: number;
  /** The connection is lost on the way; a part of the bytes may have been moved. */
  readonly loss: number;
  /** All bytes were moved, and the answer is lost. */
  readonly answerLoss: number;
  readonly stall: number;
  readonly protocolError: number;
  readonly localFault: number;
  /** By connection attempt. */
  readonly connectFail: number;
  /** By call of `post`: takes fewer than there is room for. */
  readonly shortPost: number;
  /** By write that ends badly on the way: bytes land after the outcome (`quiescent: false`). */
  readonly lateBytes: number;
}

const NO_FAULTS: SimFaults = {
  reject: 0,
  closeAfterReject: 0.5,
  loss: 0,
  answerLoss: 0,
  stall: 0,
  protocolError: 0,
  localFault: 0,
  connectFail: 0,
  shortPost: 0,
  lateBytes: 0,
};

/** Everything goes wrong now and then. */
export const STORMY_FAULTS: SimFaults = {
  reject: 0.01,
  closeAfterReject: 0.5,
  loss: 0.03,
  answerLoss: 0.02,
  stall: 0.03,
  protocolError: 0.005,
  localFault: 0.005,
  connectFail: 0.15,
  shortPost: 0.2,
  lateBytes: 0.4,
};

/** What the network asks of its members, which are transports. */
export interface SimMember {
  readonly host: TransportHost;
  /** Whether peers may touch the region now. */
  serves(region: RegisteredRegion): boolean;
  /** The process is gone: nothing is reported any more. */
  die(): void;
  revive(): void;
  /**
   * Routes towards the peer lose their connections.
   *
   * @param surelyQuiescent nothing that was on its way arrives any more
   */
  peerGone(name: string, surelyQuiescent: boolean): void;
  /** Routes towards the peer go on where a partition held them. */
  peerBack(name: string): void;
}

const TRACE_LINES = 400;

/**
 * A network of simulated engines: seeded faults, and no time but that of the given clock.
 *
 * The same seed and the same calls give the same trace, whatever the machine does.
 */
export class SimNetwork {
  readonly clock: Clock;
  readonly random: Random;
  readonly options: Required<Omit<SimOptions, 'faults' | 'ledger'>>;
  readonly ledger: SliceLedger | undefined;
  /** What stands for the bytes when `bulk` is `tags`. */
  readonly tags: ContentTags;
  faults: SimFaults;
  readonly #members = new Map<string, SimMember>();
  readonly #dead = new Set<string>();
  readonly #partitions = new Set<string>();
  readonly #slow = new Map<string, number>();
  readonly #trace: TraceEvent[] = [];
  #traceCount = 0;
  #hash = 0x811c9dc5;

  constructor(seed: number, clock: Clock, options: SimOptions = {}) {
    const { faults, ledger, ...given } = options;
    this.ledger = ledger;
    this.clock = clock;
    this.random = seededRandom(seed);
    this.faults = { ...NO_FAULTS, ...faults };
    this.options = {
      lanesPerPeer: 2,
      latencyMs: [0.05, 1],
      bytesPerMs: 1_000_000,
      reportDelayMs: [0, 0.2],
      connectMs: [0.1, 2],
      connectTimeoutMs: 500,
      statusTimeoutMs: 30_000,
      queueSlices: 256,
      queueBytes: 16 * 1024 * 1024,
      sliceBytes: 1024 * 1024,
      stallMs: [1, 200],
      lateMs: [0, 100],
      bulk: 'off',
      tagBytes: 1024 * 1024,
      ...given,
    };
    this.tags = new ContentTags(this.options.tagBytes);
  }

  /** Kills a process: its peers lose their connections, and it reports nothing any more. */
  kill(name: string): void {
    if (this.#dead.has(name)) return;
    this.note('kill', name);
    this.#dead.add(name);
    this.#members.get(name)?.die();
    for (const member of this.#members.values()) member.peerGone(name, true);
  }

  /** Lets a killed process answer again, with the memory that it had. */
  revive(name: string): void {
    this.note('revive', name);
    this.#dead.delete(name);
    this.#members.get(name)?.revive();
  }

  /** Nothing passes between the two, in either direction, and neither notices. */
  partition(first: string, second: string): void {
    this.note('partition', first, second);
    this.#partitions.add(pair(first, second));
  }

  heal(first: string, second: string): void {
    if (!this.#partitions.delete(pair(first, second))) return;
    this.note('heal', first, second);
    this.#members.get(first)?.peerBack(second);
    this.#members.get(second)?.peerBack(first);
  }

  partitioned(first: string, second: string): boolean {
    return this.#partitions.has(pair(first, second));
  }

  /** Connections between the two are reset; what was on its way may still arrive. */
  reset(first: string, second: string): void {
    this.note('reset', first, second);
    this.#members.get(first)?.peerGone(second, false);
    this.#members.get(second)?.peerGone(first, false);
  }

  /** What the process reads and serves takes `factor` times as long; 1 ends this. */
  slowDown(name: string, factor: number): void {
    this.note('slow', name, factor);
    if (factor === 1) this.#slow.delete(name);
    else this.#slow.set(name, factor);
  }

  slownessOf(name: string): number {
    return this.#slow.get(name) ?? 1;
  }

  /** Who answers to a segment name now. */
  find(name: string): SimMember | undefined {
    return this.#dead.has(name) ? undefined : this.#members.get(name);
  }

  /** The newest member with a name has it, also when an older one was killed. */
  join(name: string, member: SimMember): void {
    this.#dead.delete(name);
    this.#members.set(name, member);
  }

  leave(name: string, member: SimMember): void {
    if (this.#members.get(name) !== member) return;
    this.#members.delete(name);
    for (const other of this.#members.values()) other.peerGone(name, true);
  }

  chance(probability: number): boolean {
    return probability > 0 && this.random.float() < probability;
  }

  draw([min, max]: Span): number {
    return min + this.random.float() * (max - min);
  }

  /** An integer in [0, limit). */
  below(limit: number): number {
    return Math.floor(this.random.float() * limit);
  }

  /** Adds an event to the trace. */
  note(event: string, ...facts: (string | number)[]): void {
    // Text is made when somebody reads it: a simulation notes millions of events.
    const atMs = this.clock.nowMs();
    let hash = mixNumber(mixText(this.#hash, event), atMs);
    for (const fact of facts) {
      hash = typeof fact === 'number' ? mixNumber(hash, fact) : mixText(hash, fact);
    }
    this.#hash = hash;
    this.#trace[this.#traceCount % TRACE_LINES] = { atMs, event, facts };
    this.#traceCount += 1;
  }

  /** Identifies everything that happened so far. */
  get traceHash(): string {
    return `${this.#traceCount}-${(this.#hash >>> 0).toString(16).padStart(8, '0')}`;
  }

  /** The latest events, oldest first, each "time event facts". */
  get trace(): readonly string[] {
    const split = this.#traceCount <= TRACE_LINES ? 0 : this.#traceCount % TRACE_LINES;
    return [...this.#trace.slice(split), ...this.#trace.slice(0, split)].map(
      ({ atMs, event, facts }) => `${atMs.toFixed(3)} ${event} ${facts.join(' ')}`,
    );
  }
}

interface TraceEvent {
  readonly atMs: number;
  readonly event: string;
  readonly facts: readonly (string | number)[];
}

/** FNV-1a over characters. */
function mixText(hash: number, text: string): number {
  let mixed = hash;
  for (let index = 0; index < text.length; index += 1) {
    mixed = Math.imul(mixed ^ text.charCodeAt(index), 0x01000193);
  }
  return mixed;
}

const numberBits = new Float64Array(1);
const numberWords = new Uint32Array(numberBits.buffer);

function mixNumber(hash: number, value: number): number {
  numberBits[0] = value;
  const mixed = Math.imul(hash ^ (numberWords[0] as number), 0x01000193);
  return Math.imul(mixed ^ (numberWords[1] as number), 0x01000193);
}

const pair = (first: string, second: string): string =>
  first < second ? `${first}\n${second}` : `${second}\n${first}`;
