import { TaskState } from '../../packages/core/src/base/error-codes.ts';
import { EngineError } from '../../packages/core/src/base/errors.ts';
import { seededRandom, type Random } from '../../packages/core/src/base/random.ts';
import { BufferStore } from '../../packages/core/src/memory/buffer-store.ts';
import type { RegisteredRegion } from '../../packages/core/src/memory/registered-region.ts';
import type { SegmentDescriptor } from '../../packages/core/src/segment/segment-descriptor.ts';
import {
  CheckedSink,
  createTestHost,
  describeSegment,
  FakeClock,
  SimNetwork,
  SimTransport,
  STORMY_FAULTS,
  type SimFaults,
} from '../../packages/core/src/testing/index.ts';
import {
  CANCEL_GRACE_MS,
  PeerQueue,
  Submission,
  TransferMachine,
  type PriorityClass,
  type SubmissionColumns,
} from '../../packages/core/src/transfer/index.ts';
import { Opcode } from '../../packages/core/src/transport/slice.ts';
import type {
  CompletionSink,
  Route,
  TransportHost,
} from '../../packages/core/src/transport/transport.ts';

const AREA = 64 * 1024;
const ATTEMPTS_MAX = 4;
/** Deadlines are looked at in ticks of 8 ms; slices that are being served have 50 ms of grace. */
const DEADLINE_BOUND_MS = 50 + 20;
/** Far more than any submission needs while every peer answers. */
const PATIENCE_MS = 60_000;
const CANCEL_BOUND_MS = CANCEL_GRACE_MS + 20;

/** Every byte says where it comes from: sources have bytes below 128, and nothing else has. */
const UNTOUCHED = 0xf0;
const POISON = 0xee;
const PATTERN = Buffer.alloc(AREA);
const ALL_POISON = Buffer.alloc(AREA, POISON);
const ALL_UNTOUCHED = Buffer.alloc(AREA, UNTOUCHED);
{
  const random = seededRandom(1);
  for (let index = 0; index < AREA; index += 1) PATTERN[index] = random.uint32() & 0x7f;
}

interface Target {
  readonly name: string;
  readonly host: TransportHost;
  readonly queue: PeerQueue;
  readonly transports: readonly SimTransport[];
  /** Peers write here; every byte is written by one row at most. */
  readonly writable: RegisteredRegion;
  /** Peers read here, and may not write. */
  readonly readable: RegisteredRegion;
  routes: Route[];
  writableUsed: number;
}

interface Row {
  readonly target: Target;
  readonly isWrite: boolean;
  /** The target has to refuse it. */
  readonly bad: boolean;
  readonly address: bigint;
  readonly length: number;
  readonly localOffset: number;
  /** Place in the target's writable or readable area; -1 for bad rows. */
  readonly remoteOffset: number;
  /** The destination when the row had ended. */
  after: Buffer | undefined;
}

interface Watched {
  readonly submission: Submission;
  readonly rows: readonly Row[];
  readonly local: Buffer;
  readonly region: RegisteredRegion;
  /** States as they were seen last; a state changes once. */
  readonly seen: Uint8Array;
  deadlineMs: number;
  /** The submission has settled by then. */
  boundMs: number;
  settledCount: number;
  settledAtMs: number;
}

export interface WorldReport {
  readonly calm: boolean;
  readonly rows: number;
  readonly completed: number;
  readonly retries: number;
  readonly settledBy: readonly TaskState[];
  readonly trace: string;
}

/** One initiator with a transfer machine, some targets, and everything that can happen to them. */
export class TransferWorld {
  readonly clock = new FakeClock();
  readonly #random: Random;
  readonly #networks: SimNetwork[];
  readonly #machine: TransferMachine;
  readonly #sinks: CheckedSink[];
  readonly #initiators: SimTransport[];
  readonly #host: TransportHost;
  readonly #targets: Target[] = [];
  readonly #watched: Watched[] = [];
  #pumpPlanned = false;
  #closed = false;
  /** Nothing goes wrong but back-pressure, and there is time: then everything has to complete. */
  readonly #calm: boolean;
  /** Things go wrong, but nobody is gone, and deadlines are far away: nothing may wait for them. */
  readonly #patient: boolean;
  #timerAtMs = Number.POSITIVE_INFINITY;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
    const mood = this.#random.float();
    this.#calm = mood < 0.15;
    this.#patient = this.#calm || mood < 0.3;
    this.#machine = new TransferMachine({
      nowMs: () => this.clock.nowMs(),
      wake: () => this.#wake(),
      attemptsMax: ATTEMPTS_MAX,
      ...(this.#chance(0.4) && { inFlightBytesMax: 2_000 + this.#below(20_000) }),
    });
    const sink: CompletionSink = {
      complete: (...call) => {
        this.#machine.complete(...call);
        this.#observe();
      },
      ready: (route) => this.#machine.ready(route),
    };
    const networkCount = this.#chance(0.3) ? 2 : 1;
    this.#networks = Array.from({ length: networkCount }, () => this.#makeNetwork());
    this.#sinks = this.#networks.map(() => new CheckedSink(sink));
    this.#host = createTestHost({ segmentName: 'initiator', clock: this.clock });
    this.#initiators = this.#networks.map((network, index) => {
      const host = { ...this.#host, sink: this.#sinks[index] as CheckedSink };
      return new SimTransport(`sim${index}`, network, host);
    });
    for (const transport of this.#initiators) void transport.start();
    const targets = 1 + this.#below(3);
    for (let index = 0; index < targets; index += 1) this.#addTarget(`target-${index}`);
  }

  /** Lets everything happen, and checks what has to hold. */
  run(): WorldReport {
    const lastEventMs = 20 + this.#below(300);
    const submissions = 1 + this.#below(6);
    for (let index = 0; index < submissions; index += 1) {
      this.clock.schedule(this.#below(lastEventMs), () => this.#submit());
    }
    const events = this.#patient ? 0 : this.#below(8);
    for (let index = 0; index < events; index += 1) {
      this.clock.schedule(this.#below(lastEventMs), () => this.#happen());
    }
    this.clock.advance(lastEventMs);
    for (const { boundMs, settledCount } of this.#watched) {
      if (settledCount === 0) this.clock.advance(Math.max(0, boundMs - this.clock.nowMs()));
    }
    this.#checkSettled();
    this.#close();
    this.#checkMemory();
    return this.#report();
  }

  get trace(): string {
    return this.#networks.flatMap((network) => [...network.trace, '--']).join('\n');
  }

  // ---- what there is

  #makeNetwork(): SimNetwork {
    const scale = [0, 0.3, 1, 3][this.#below(4)] as number;
    const storm = Object.fromEntries(
      Object.entries(STORMY_FAULTS).map(([name, chance]: [string, number]) => [
        name,
        name === 'lateBytes' || name === 'closeAfterReject' ? chance : Math.min(chance * scale, 1),
      ]),
    ) as Partial<SimFaults>;
    const faults = this.#calm ? { shortPost: 0.3, stall: 0.02 } : storm;
    return new SimNetwork(this.#random.uint32(), this.clock, {
      lanesPerPeer: 1 + this.#below(3),
      latencyMs: [0.05, 0.05 + this.#below(5)],
      bytesPerMs: [1_000, 100_000][this.#below(2)] as number,
      queueSlices: [1, 3, 16, 256][this.#below(4)] as number,
      queueBytes: [2_000, 20_000, 1 << 20][this.#below(3)] as number,
      connectTimeoutMs: 20 + this.#below(200),
      statusTimeoutMs: this.#calm ? 10_000 : 100 + this.#below(1000),
      stallMs: [1, 400],
      faults,
    });
  }

  #addTarget(name: string): void {
    const host = createTestHost({
      segmentName: name,
      clock: this.clock,
      seed: this.#random.uint32(),
    });
    // Addresses that carry from the low 32 bits into the high ones in the middle of the area.
    const carries = this.#chance(0.3);
    const [writable, readable] = host.registry.add([
      {
        ...(carries && { address: 2 ** 43 - AREA / 2 }),
        store: new BufferStore(Buffer.alloc(AREA, UNTOUCHED)),
        location: '*',
        permission: 'global-read-write',
      },
      {
        ...(carries && { address: 2 ** 43 + 2 ** 32 - AREA / 2 }),
        store: new BufferStore(Buffer.from(PATTERN)),
        location: '*',
        permission: 'global-read-only',
      },
    ]) as [RegisteredRegion, RegisteredRegion];
    const transports = this.#networks.map(
      (network, index) => new SimTransport(`sim${index}`, network, host),
    );
    for (const transport of transports) void transport.start();
    const queue = new PeerQueue(name);
    const target: Target = {
      name,
      host,
      queue,
      transports,
      writable,
      readable,
      routes: [],
      writableUsed: 0,
    };
    queue.describe(this.#describe(target));
    if (this.#chance(0.2)) queue.onTrouble = () => this.#rerouteSoon(target);
    this.#targets.push(target);
    this.#route(target);
  }

  #describe({ transports, host }: Target): SegmentDescriptor {
    const descriptors = transports.map((transport) => describeSegment({ transport, host }));
    return {
      ...(descriptors[0] as SegmentDescriptor),
      protocols: descriptors.flatMap(({ protocols }) => protocols),
    };
  }

  /** Gives a peer new routes, as a new document of it does. */
  #route(target: Target): void {
    const old = target.routes;
    const peer = { descriptor: this.#describe(target), host: 'nowhere' };
    target.routes = this.#initiators.map((transport, index) => {
      const route = transport.reach(peer);
      if (route === undefined) throw new Error('a target of the simulation is reachable');
      return (this.#sinks[index] as CheckedSink).route(route);
    });
    this.#machine.setRoutes(target.queue, target.routes);
    for (const route of old) void route.close();
    this.#observe();
  }

  #rerouteSoon(target: Target): void {
    target.queue.onTrouble = undefined;
    this.clock.schedule(this.#below(30), () => {
      if (!this.#closed) this.#route(target);
    });
  }

  // ---- what happens

  #submit(): void {
    const target = this.#pick(this.#targets);
    const sliceBytes = [512, 1024, 4096][this.#below(3)] as number;
    const local = Buffer.from(PATTERN);
    const rows = this.#makeRows(target, sliceBytes);
    for (const { isWrite, localOffset, length } of rows) {
      if (!isWrite) local.fill(UNTOUCHED, localOffset, localOffset + length);
    }
    const store = new BufferStore(local);
    const [region] = this.#host.registry.add([
      { store, location: '*', permission: 'local-read-write' },
    ]) as [RegisteredRegion];
    const seen = new Uint8Array(rows.length);
    const nowMs = this.clock.nowMs();
    const deadlineMs = nowMs + this.#drawTimeoutMs();
    const submission = new Submission({
      peer: target.queue,
      columns: this.#columnsOf(rows, store),
      sliceBytes,
      priority: this.#below(3) as PriorityClass,
      transportName: this.#chance(0.2) ? `sim${this.#below(this.#networks.length)}` : undefined,
      states: new Uint8Array(rows.length),
      regions: [region],
      onSettled: (settled) => this.#settled(settled),
    });
    const boundMs = deadlineMs + DEADLINE_BOUND_MS;
    this.#watched.push({
      submission,
      rows,
      local,
      region,
      seen,
      deadlineMs,
      boundMs,
      settledCount: 0,
      settledAtMs: Number.NaN,
    });
    if (!this.#calm && this.#chance(0.3)) submission.stallMs = 20 + this.#below(500);
    submission.prepareRows(0, rows.length);
    this.#machine.submit(submission, nowMs, deadlineMs);
    this.#observe();
  }

  #drawTimeoutMs(): number {
    if (this.#patient) return PATIENCE_MS * 10;
    return this.#chance(0.3) ? this.#below(40) : 20 + this.#below(3000);
  }

  #makeRows(target: Target, sliceBytes: number): Row[] {
    const count = 1 + this.#below(this.#chance(0.1) ? 120 : 20);
    const longest = this.#chance(0.3) ? sliceBytes * 5 : 600;
    const rows: Row[] = [];
    let localOffset = this.#below(3);
    for (let index = 0; index < count; index += 1) {
      const length = this.#chance(0.05) ? 0 : 1 + this.#below(longest);
      if (localOffset + length > AREA) break;
      const isWrite = this.#chance(0.6);
      const bad = length > 0 && this.#chance(0.02);
      const remoteOffset = bad ? -1 : this.#placeRow(target, isWrite, length);
      if (remoteOffset === undefined) break;
      const area = isWrite ? target.writable : target.readable;
      const address = bad
        ? this.#badAddress(target, isWrite, length)
        : BigInt(area.address + remoteOffset);
      rows.push({
        target,
        isWrite,
        bad,
        address,
        length,
        localOffset,
        remoteOffset,
        after: undefined,
      });
      localOffset += length;
    }
    return rows;
  }

  #placeRow(target: Target, isWrite: boolean, length: number): number | undefined {
    if (!isWrite) return this.#below(AREA - length + 1);
    const offset = target.writableUsed;
    if (offset + length > AREA) return undefined;
    target.writableUsed += length;
    return offset;
  }

  #badAddress({ writable, readable }: Target, isWrite: boolean, length: number): bigint {
    const choices = [
      BigInt(writable.end) - BigInt(length) + 1n,
      BigInt(readable.address) - 1n,
      8n,
      BigInt(writable.end) + 100n,
    ];
    if (isWrite) choices.push(BigInt(readable.address));
    return this.#pick(choices);
  }

  #columnsOf(rows: readonly Row[], store: BufferStore): SubmissionColumns {
    const words = new Uint32Array(rows.length * 2);
    rows.forEach(({ address }, row) => {
      words[2 * row] = Number(address & 0xffff_ffffn);
      words[2 * row + 1] = Number(address >> 32n);
    });
    const asNumbers = this.#chance(0.5);
    return {
      count: rows.length,
      opcode: Uint8Array.from(rows, ({ isWrite }) => (isWrite ? Opcode.write : Opcode.read)),
      store: this.#chance(0.5) ? store : () => store,
      localOffset: Float64Array.from(rows, ({ localOffset }) => localOffset),
      remoteAddress: asNumbers ? Float64Array.from(rows, ({ address }) => Number(address)) : words,
      length: Float64Array.from(rows, ({ length }) => length),
    };
  }

  #happen(): void {
    const target = this.#pick(this.#targets);
    const network = this.#pick(this.#networks);
    switch (this.#below(6)) {
      case 0:
      case 1:
        return this.#cancelSome();
      case 2:
        for (const each of this.#networks) each.kill(target.name);
        if (this.#chance(0.6)) {
          this.clock.schedule(this.#below(200), () => {
            for (const each of this.#networks) each.revive(target.name);
          });
        }
        return undefined;
      case 3:
        network.partition('initiator', target.name);
        this.clock.schedule(this.#below(500), () => network.heal('initiator', target.name));
        return undefined;
      case 4:
        // Unregistered while peers use it: the memory freezes at once.
        target.host.registry.retire(this.#chance(0.5) ? target.writable : target.readable);
        return undefined;
      default:
        return this.#route(target);
    }
  }

  #cancelSome(): void {
    const open = this.#watched.filter(({ settledCount }) => settledCount === 0);
    if (open.length === 0) return;
    const watched = this.#pick(open);
    const { submission } = watched;
    if (submission.ending === undefined) {
      watched.boundMs = Math.max(watched.boundMs, this.clock.nowMs() + CANCEL_BOUND_MS);
    }
    const error = new EngineError('ERR_TE_CANCELED', 'canceled by the simulation');
    this.#machine.end(submission, error, CANCEL_GRACE_MS);
    this.#observe();
  }

  // ---- the driver

  #wake(): void {
    if (this.#pumpPlanned) return;
    this.#pumpPlanned = true;
    this.clock.schedule(0, () => {
      this.#pumpPlanned = false;
      this.#pump();
    });
  }

  #pump(): void {
    this.#machine.pump(this.clock.nowMs());
    this.#observe();
    const nextMs = this.#machine.nextDeadlineMs();
    if (nextMs === undefined || nextMs >= this.#timerAtMs) return;
    this.#timerAtMs = nextMs;
    this.clock.schedule(nextMs - this.clock.nowMs(), () => {
      this.#timerAtMs = Number.POSITIVE_INFINITY;
      this.#pump();
    });
  }

  // ---- what has to hold

  #settled(submission: Submission): void {
    const watched = this.#watched.find((each) => each.submission === submission) as Watched;
    if (watched.settledCount === 0) this.#observeRows(watched);
    watched.settledCount += 1;
    watched.settledAtMs = this.clock.nowMs();
    expectThat(submission.runs.length === 0, 'a settled submission has no slices on the way');
    expectThat(submission.rowsLeft === 0, 'a settled submission has no open rows');
  }

  /** Looks at every row that may have ended since the last look. */
  #observe(): void {
    for (const watched of this.#watched) {
      if (watched.settledCount === 0) this.#observeRows(watched);
    }
  }

  #observeRows(watched: Watched): void {
    const { submission, rows, seen, local } = watched;
    let open = 0;
    for (let index = 0; index < rows.length; index += 1) {
      const state = submission.states[index] as TaskState;
      if (state === seen[index]) {
        if (state === TaskState.waiting) open += 1;
        continue;
      }
      expectThat(seen[index] === TaskState.waiting, `row ${index} ended twice`);
      seen[index] = state;
      const row = rows[index] as Row;
      if (state === TaskState.completed) this.#checkCompleted(row, local, index);
      if (!row.bad) row.after = Buffer.from(row.isWrite ? this.#remoteOf(row) : nearOf(row, local));
      this.#checkReport(submission, row, index);
      // From here on the memory belongs to the user again, who uses it at once.
      local.fill(POISON, row.localOffset, row.localOffset + row.length);
    }
    expectThat(
      submission.rowsLeft === open,
      `${open} rows are open, and the submission counts ${submission.rowsLeft}`,
    );
  }

  #checkCompleted(row: Row, local: Buffer, index: number): void {
    expectThat(!row.bad, `row ${index} completed, which the peer has to refuse`);
    expectThat(
      nearOf(row, local).equals(this.#remoteOf(row)),
      `row ${index} completed, and its bytes are not in the destination`,
    );
  }

  /** What a failed row says about its destination, against what is there. */
  #checkReport(submission: Submission, row: Row, index: number): void {
    const destination = submission.failures?.get(index)?.destination;
    const { after } = row;
    if (destination === undefined || after === undefined) return;
    const told = `row ${index} is ${destination.state}`;
    expectThat(
      destination.state !== 'untouched' || after.equals(ALL_UNTOUCHED.subarray(0, after.length)),
      `${told}, and its destination was written`,
    );
    const from = row.isWrite ? row.localOffset : row.remoteOffset;
    const source = PATTERN.subarray(from, from + row.length);
    for (const [offset, length] of destination.appliedRanges) {
      expectThat(offset + length <= row.length && length > 0, `${told}: ${offset}, ${length}`);
      expectThat(
        after.subarray(offset, offset + length).equals(source.subarray(offset, offset + length)),
        `${told}, and bytes ${offset} to ${offset + length} are not there, as it says`,
      );
    }
  }

  #remoteOf({ target, isWrite, remoteOffset, length }: Row): Buffer {
    const { bytes } = (isWrite ? target.writable : target.readable).store as BufferStore;
    return bytes.subarray(remoteOffset, remoteOffset + length);
  }

  #checkSettled(): void {
    this.#watched.forEach((watched, index) => {
      const { submission, settledCount, settledAtMs, boundMs, deadlineMs } = watched;
      const name = `submission ${index} (deadline ${deadlineMs}, ${submission.rowsLeft} rows left)`;
      expectThat(settledCount > 0, `${name} has not settled by ${boundMs}`);
      expectThat(settledCount === 1, `${name} settled ${settledCount} times`);
      expectThat(settledAtMs <= boundMs, `${name} settled at ${settledAtMs}, after ${boundMs}`);
      expectThat(
        !this.#patient || settledAtMs - submission.startedMs < PATIENCE_MS,
        `${name} settled at ${settledAtMs}, which is late although everybody answers`,
      );
      expectThat(
        submission.attempts <= ATTEMPTS_MAX,
        `${name} tried a slice ${submission.attempts} times`,
      );
      this.#checkErrors(watched, name);
    });
    const { counters } = this.#machine;
    const rows = this.#watched.reduce((sum, each) => sum + each.rows.length, 0);
    expectThat(counters.slicesInFlight === 0, `${counters.slicesInFlight} slices are in flight`);
    expectThat(counters.tasksActive === 0, `${counters.tasksActive} tasks are active`);
    expectThat(
      counters.tasksCompleted + counters.tasksFailed === rows,
      `${counters.tasksCompleted} + ${counters.tasksFailed} tasks of ${rows} were counted`,
    );
    for (const sink of this.#sinks) expectThat(sink.owned === 0, `${sink.owned} slices are owned`);
  }

  #checkErrors({ submission, rows }: Watched, name: string): void {
    let failed = 0;
    rows.forEach((row, index) => {
      const completed = submission.states[index] === TaskState.completed;
      if (!completed) failed += 1;
      const error = submission.failures?.get(index)?.error;
      expectThat(
        !this.#calm || completed !== row.bad,
        `${name}: nothing went wrong, and row ${index} is ${submission.states[index]}`,
      );
      expectThat(
        completed === (error === undefined),
        `${name}: row ${index} is ${submission.states[index]}, with error ${String(error)}`,
      );
    });
    expectThat(submission.rowsFailed === failed, `${name}: ${submission.rowsFailed} of ${failed}`);
    const done = rows.reduce((sum, _, index) => sum + submission.bytesOf(index), 0);
    expectThat(submission.bytes >= done, `${name}: ${submission.bytes} bytes, rows have ${done}`);
  }

  #close(): void {
    this.#closed = true;
    for (const { queue, name } of this.#targets) {
      for (const network of this.#networks) network.heal('initiator', name);
      expectThat(queue.active.size === 0, `${queue.active.size} submissions are active`);
      this.#machine.removePeer(queue);
    }
    for (const transport of this.#initiators) void transport.close();
    this.clock.runAll();
    expectThat(this.#machine.nextDeadlineMs() === undefined, 'a deadline is left');
    for (const { queue } of this.#targets) {
      const left = queue.waiting.flat().filter(({ settled }) => !settled).length;
      expectThat(left === 0, `${left} submissions wait that have not settled`);
    }
    for (const { region } of this.#watched) {
      expectThat(region.pins === 0, `a local region has ${region.pins} pins`);
      expectThat(region.ownTransfers === 0, `it counts ${region.ownTransfers} transfers`);
    }
  }

  /** Long after the end: nothing was read from, or written to, memory that was given back. */
  #checkMemory(): void {
    for (const { rows, local, submission } of this.#watched) {
      rows.forEach((row, index) => {
        const near = local.subarray(row.localOffset, row.localOffset + row.length);
        expectThat(
          near.equals(ALL_POISON.subarray(0, near.length)),
          `local memory of row ${index} was written after the row had ended`,
        );
        if (row.isWrite && !row.bad) this.#checkDestination(row, submission, index);
      });
    }
    for (const { writable, writableUsed, readable } of this.#targets) {
      const rest = (writable.store as BufferStore).bytes.subarray(writableUsed);
      expectThat(
        rest.equals(ALL_UNTOUCHED.subarray(0, rest.length)),
        'bytes that nobody named were written',
      );
      const { bytes } = readable.store as BufferStore;
      expectThat(bytes.equals(PATTERN), 'memory that peers may only read was written');
    }
  }

  #checkDestination(row: Row, submission: Submission, index: number): void {
    const far = this.#remoteOf(row);
    const source = PATTERN.subarray(row.localOffset, row.localOffset + row.length);
    const whole = far.equals(source) || far.equals(ALL_UNTOUCHED.subarray(0, far.length));
    for (let at = 0; !whole && at < far.length; at += 1) {
      expectThat(far[at] !== POISON, `the source of row ${index} was read after the row had ended`);
      expectThat(
        far[at] === source[at] || far[at] === UNTOUCHED,
        `byte ${at} of row ${index} is ${far[at]}, which nobody wrote`,
      );
    }
    const failure = submission.failures?.get(index);
    const expected = Buffer.from(row.after as Buffer);
    for (const [offset, length] of failure?.destination.unknownRanges ?? []) {
      far.copy(expected, offset, offset, offset + length);
    }
    expectThat(
      expected.equals(far),
      `the destination of row ${index} changed after it had ended (state ` +
        `${submission.states[index]}), and its error does not say so: ` +
        String(failure?.error.message),
    );
  }

  #report(): WorldReport {
    const states = this.#watched.flatMap(({ submission, rows }) =>
      rows.map((_, index) => submission.states[index] as TaskState),
    );
    return {
      calm: this.#calm,
      rows: states.length,
      completed: states.filter((state) => state === TaskState.completed).length,
      retries: this.#machine.counters.retries,
      settledBy: [...new Set(states)],
      trace: this.#networks.map(({ traceHash }) => traceHash).join('+'),
    };
  }

  // ---- chance

  #below(limit: number): number {
    return Math.floor(this.#random.float() * limit);
  }

  #chance(probability: number): boolean {
    return this.#random.float() < probability;
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#below(list.length)] as T;
  }
}

function nearOf({ localOffset, length }: Row, local: Buffer): Buffer {
  return local.subarray(localOffset, localOffset + length);
}

function expectThat(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(message);
}
