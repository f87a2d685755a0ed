import { describe, expect, it } from 'vitest';
import { TaskState } from '../base/error-codes.ts';
import { EngineError } from '../base/errors.ts';
import { BufferStore } from '../memory/buffer-store.ts';
import type { SegmentDescriptor } from '../segment/segment-descriptor.ts';
import { Outcome } from '../transport/outcome.ts';
import { Opcode, Slice, type SliceRun } from '../transport/slice.ts';
import type { Route, Transport } from '../transport/transport.ts';
import { PeerQueue, Submission, TransferMachine } from './index.ts';

interface Taken {
  readonly address: number;
  readonly length: number;
}

/** A route whose outcomes are written by the test. */
class ScriptedRoute implements Route {
  readonly transport: Transport;
  readonly peer = { descriptor: descriptor(), host: 'peer' };
  readonly sliceBytes = 1000;
  readonly writeDurability: 'applied' | 'sent';
  room = Number.POSITIVE_INFINITY;
  posts: { run: SliceRun; slices: Taken[] }[] = [];
  canceled: SliceRun[] = [];
  reaches?: (slice: Slice) => boolean;

  constructor(name = 'scripted', durability: 'applied' | 'sent' = 'applied') {
    this.writeDurability = durability;
    this.transport = {
      name,
      capabilities: { needsRegisteredMemory: false },
      start: () => Promise.resolve(),
      describe: () => undefined,
      reach: () => undefined,
      close: () => Promise.resolve(),
    };
  }

  post(run: SliceRun): number {
    const slice = new Slice();
    const slices: Taken[] = [];
    while (this.room > 0 && run.peek(slice)) {
      slices.push({
        address: slice.addressLow + slice.addressHigh * 2 ** 32,
        length: slice.length,
      });
      run.take();
      this.room -= 1;
    }
    if (slices.length > 0) this.posts.push({ run, slices });
    return slices.length;
  }

  cancel(run: SliceRun): void {
    this.canceled.push(run);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

const BASE = 0x1000_0000;

function descriptor(): SegmentDescriptor {
  return {
    name: 'peer',
    protocols: ['scripted'],
    tcpDataPort: 0,
    tcpProtoVersion: 1,
    buffers: [
      { name: 'peer', address: BigInt(BASE), length: 1 << 20, remoteKeys: [], localKeys: [] },
    ],
    devices: [],
    priorityMatrix: {},
  };
}

function setUp(routes: ScriptedRoute[]) {
  let nowMs = 0;
  let wakes = 0;
  const machine = new TransferMachine({
    nowMs: () => nowMs,
    wake: () => (wakes += 1),
    attemptsMax: 3,
  });
  const peer = new PeerQueue('peer');
  peer.describe(descriptor());
  machine.setRoutes(peer, routes);
  const submit = (
    lengths: number[],
    init: { transport?: string; priority?: 0 | 1 | 2; at?: number; stallMs?: number } = {},
  ) => {
    const offsets = new Float64Array(lengths.length);
    const addresses = new Float64Array(lengths.length);
    let at = init.at ?? 0;
    lengths.forEach((length, row) => {
      offsets[row] = at;
      addresses[row] = BASE + at;
      at += length;
    });
    const settled: Submission[] = [];
    const submission = new Submission({
      peer,
      columns: {
        count: lengths.length,
        opcode: Opcode.write,
        store: new BufferStore(new ArrayBuffer(Math.max(at, 1))),
        localOffset: offsets,
        remoteAddress: addresses,
        length: Float64Array.from(lengths),
      },
      sliceBytes: 1000,
      priority: init.priority ?? 1,
      transportName: init.transport,
      states: new Uint8Array(lengths.length),
      regions: [],
      onSettled: (done) => settled.push(done),
    });
    submission.prepareRows(0, lengths.length);
    submission.stallMs = init.stallMs ?? Number.POSITIVE_INFINITY;
    machine.submit(submission, nowMs, nowMs + 5000);
    return { submission, settled };
  };
  const pump = (advanceMs = 0) => {
    nowMs += advanceMs;
    machine.pump(nowMs);
  };
  return { machine, peer, submit, pump, wakes: () => wakes };
}

const lost = () => new EngineError('ERR_TE_PEER_LOST', 'gone');
const refused = () => new EngineError('ERR_TE_ADDRESS_REJECTED', 'no');
const noConnection = () => new EngineError('ERR_TE_CONNECT_FAILED', 'refused');

describe('TransferMachine', () => {
  it('cuts rows into slices, posts them in order and settles once', () => {
    const route = new ScriptedRoute();
    const { submit, pump, machine } = setUp([route]);
    const { submission, settled } = submit([100, 0, 2600, 7]);
    expect(route.posts).toHaveLength(0);
    pump();
    const slices = route.posts.flatMap((post) => post.slices);
    expect(slices.map(({ length }) => length)).toEqual([100, 1000, 1000, 600, 7]);
    expect(slices.map(({ address }) => address - BASE)).toEqual([0, 100, 1100, 2100, 2700]);
    machine.complete(route.posts[0]!.run, 3, Outcome.ok);
    pump();
    expect(settled).toHaveLength(0);
    expect([...submission.states]).toEqual([4, 4, 0, 0]);
    expect(submission.bytesOf(2)).toBe(2000);
    machine.complete(route.posts[0]!.run, 2, Outcome.ok);
    expect(settled).toHaveLength(0);
    pump();
    expect(settled).toEqual([submission]);
    expect([...submission.states]).toEqual([4, 4, 4, 4]);
    expect(submission.bytes).toBe(2707);
    expect(machine.counters).toMatchObject({
      bytesWritten: 2707,
      tasksCompleted: 4,
      tasksActive: 0,
      slicesInFlight: 0,
    });
    expect(machine.nextDeadlineMs()).toBeUndefined();
  });

  it('settles a submission of empty rows without traffic', () => {
    const route = new ScriptedRoute();
    const { submit, pump } = setUp([route]);
    const { settled, submission } = submit([0, 0]);
    pump();
    expect(settled).toEqual([submission]);
    expect(route.posts).toHaveLength(0);
  });

  it('does not cut a row that no single buffer of the peer holds', () => {
    const route = new ScriptedRoute();
    const { submit, pump } = setUp([route]);
    submit([3000], { at: (1 << 20) - 2999 });
    pump();
    expect(route.posts[0]!.slices.map(({ length }) => length)).toEqual([3000]);
  });

  it('waits for room and goes on when an outcome or ready tells of it', () => {
    const route = new ScriptedRoute();
    route.room = 2;
    const { submit, pump, machine } = setUp([route]);
    const { settled } = submit([10, 10, 10, 10]);
    pump();
    expect(route.posts[0]!.slices).toHaveLength(2);
    pump();
    expect(route.posts).toHaveLength(1);
    route.room = 1;
    machine.complete(route.posts[0]!.run, 1, Outcome.ok);
    pump();
    expect(route.posts).toHaveLength(2);
    route.room = 5;
    machine.ready(route);
    pump();
    expect(route.posts).toHaveLength(3);
    machine.complete(route.posts[0]!.run, 1, Outcome.ok);
    machine.complete(route.posts[2]!.run, 1, Outcome.ok);
    machine.complete(route.posts[1]!.run, 1, Outcome.ok);
    pump();
    expect(settled).toHaveLength(1);
  });

  it('fails only the refused row and replays its neighbours without counting an attempt', () => {
    const route = new ScriptedRoute();
    const { submit, pump, machine } = setUp([route]);
    const { submission, settled } = submit([10, 20, 30]);
    pump();
    const { run } = route.posts[0]!;
    machine.complete(run, 1, Outcome.ok);
    machine.complete(run, 1, Outcome.rejected, refused());
    machine.complete(run, 1, Outcome.replay);
    pump();
    expect(route.posts[1]!.slices).toEqual([{ address: BASE + 30, length: 30 }]);
    machine.complete(route.posts[1]!.run, 1, Outcome.ok);
    pump();
    expect(settled).toHaveLength(1);
    expect([...submission.states]).toEqual([
      TaskState.completed,
      TaskState.failed,
      TaskState.completed,
    ]);
    expect(submission.attempts).toBe(1);
    expect(submission.failures?.get(1)?.error).toMatchObject({ code: 'ERR_TE_ADDRESS_REJECTED' });
    expect(submission.failures?.get(1)?.error.message).toContain(`0x${(BASE + 10).toString(16)}`);
  });

  it('drops the rest of a row of which one slice failed', () => {
    const route = new ScriptedRoute();
    route.room = 2;
    const { submit, pump, machine } = setUp([route]);
    const { submission, settled } = submit([4000, 5]);
    pump();
    machine.complete(route.posts[0]!.run, 1, Outcome.rejected, refused());
    route.room = 10;
    pump();
    expect(route.posts[1]!.slices.map(({ length }) => length)).toEqual([5]);
    machine.complete(route.posts[0]!.run, 1, Outcome.ok);
    machine.complete(route.posts[1]!.run, 1, Outcome.ok);
    pump();
    expect(settled).toHaveLength(1);
    expect([...submission.states]).toEqual([TaskState.failed, TaskState.completed]);
    expect(submission.bytesOf(0)).toBe(1000);
  });

  it('retries a lost slice within its budget, then gives the whole submission up', () => {
    const route = new ScriptedRoute();
    const { submit, pump, machine } = setUp([route]);
    const { submission, settled } = submit([10, 20]);
    pump();
    machine.complete(route.posts[0]!.run, 1, Outcome.peerLost, lost());
    machine.complete(route.posts[0]!.run, 1, Outcome.replay);
    pump();
    expect(route.posts).toHaveLength(3);
    machine.complete(route.posts[1]!.run, 1, Outcome.peerLost, lost());
    pump();
    machine.complete(route.posts[3]!.run, 1, Outcome.peerLost, lost());
    pump();
    expect(submission.attempts).toBe(3);
    expect(submission.states[0]).toBe(TaskState.failed);
    expect(route.canceled).toEqual([route.posts[2]!.run]);
    expect(settled).toHaveLength(0);
    machine.complete(route.posts[2]!.run, 1, Outcome.canceled);
    pump();
    expect(settled).toHaveLength(1);
    expect(submission.rowsFailed).toBe(2);
  });

  it('never retries when bytes of the failed attempt may still arrive', () => {
    const route = new ScriptedRoute();
    const { submit, pump, machine } = setUp([route]);
    const { submission, settled } = submit([10]);
    pump();
    machine.complete(route.posts[0]!.run, 1, Outcome.peerLost, lost(), false);
    pump();
    expect(route.posts).toHaveLength(1);
    expect(settled).toHaveLength(1);
    expect(submission.firstError?.details['destination']).toBe('unknown');
  });

  it('names a neighbour that cannot be replayed as lost with its connection', () => {
    const route = new ScriptedRoute();
    const { submit, pump, machine } = setUp([route]);
    const { submission, settled } = submit([10]);
    pump();
    machine.complete(route.posts[0]!.run, 1, Outcome.replay, undefined, false);
    pump();
    expect(route.posts).toHaveLength(1);
    expect(settled).toHaveLength(1);
    expect(submission.firstError).toMatchObject({
      code: 'ERR_TE_PEER_LOST',
      message: expect.stringContaining('because of another transfer') as unknown,
      details: { destination: 'unknown' },
    });
  });

  it('leaves a route alone for a while after a failure to connect', () => {
    const route = new ScriptedRoute();
    const { submit, pump, machine, peer } = setUp([route]);
    let troubles = 0;
    peer.onTrouble = () => (troubles += 1);
    submit([10]);
    pump();
    machine.complete(route.posts[0]!.run, 1, Outcome.connectFailed, noConnection());
    pump();
    expect(route.posts).toHaveLength(1);
    expect(troubles).toBe(1);
    pump(9);
    expect(route.posts).toHaveLength(1);
    pump(10);
    expect(route.posts).toHaveLength(2);
  });

  it('ends everything that waits for a peer which cannot be connected to', () => {
    const route = new ScriptedRoute();
    const { submit, pump, machine } = setUp([route]);
    const many = Array.from({ length: 50 }, () => submit([10, 20]));
    pump();
    for (const { run, slices } of route.posts.splice(0)) {
      machine.complete(run, slices.length, Outcome.connectFailed, noConnection());
    }
    for (let step = 0; step < 60; step += 1) {
      pump(8);
      for (const { run, slices } of route.posts.splice(0)) {
        expect(slices).toHaveLength(1);
        machine.complete(run, 1, Outcome.connectFailed, noConnection());
      }
    }
    for (const { settled, submission } of many) {
      expect(settled).toHaveLength(1);
      expect(submission.firstError?.code).toBe('ERR_TE_CONNECT_FAILED');
    }
  });

  it('takes another route for a retry when there is one, and the pinned one only when asked', () => {
    const first = new ScriptedRoute('first');
    const second = new ScriptedRoute('second', 'sent');
    const { submit, pump, machine } = setUp([first, second]);
    const { submission } = submit([10]);
    pump();
    machine.complete(first.posts[0]!.run, 1, Outcome.connectFailed, noConnection());
    pump();
    expect(second.posts).toHaveLength(1);
    machine.complete(second.posts[0]!.run, 1, Outcome.ok);
    pump();
    expect(submission).toMatchObject({ durability: 'sent', usedTransport: 'second', attempts: 2 });
    submit([10], { transport: 'second' });
    pump();
    expect(second.posts).toHaveLength(2);
    expect(first.posts).toHaveLength(1);
  });

  it('ends at the deadline: unposted rows at once, posted ones when the route says so', () => {
    const route = new ScriptedRoute();
    route.room = 1;
    const { submit, pump, machine } = setUp([route]);
    const { submission, settled } = submit([10, 20, 2600]);
    pump();
    pump(5020);
    expect(route.canceled).toHaveLength(1);
    expect([...submission.states]).toEqual([0, TaskState.timeout, TaskState.timeout]);
    machine.complete(route.posts[0]!.run, 1, Outcome.canceled, undefined, false);
    pump();
    expect(settled).toHaveLength(1);
    expect(submission.failures?.get(0)?.error).toMatchObject({
      code: 'ERR_TE_TIMEOUT',
      name: 'TimeoutError',
    });
    expect(submission.failures?.get(0)?.error.details['destination']).toBe('unknown');
  });

  it('counts a slice that arrived although its submission was being ended', () => {
    const route = new ScriptedRoute();
    const { submit, pump, machine } = setUp([route]);
    const { submission, settled } = submit([10]);
    pump();
    machine.end(submission, new EngineError('ERR_TE_CANCELED', 'stop'), 10);
    machine.end(submission, new EngineError('ERR_TE_CLOSED', 'later'), 10);
    machine.complete(route.posts[0]!.run, 1, Outcome.ok);
    pump();
    expect(settled).toHaveLength(1);
    expect(submission.rowsFailed).toBe(0);
    expect(submission.states[0]).toBe(TaskState.completed);
  });

  it('serves high priority first and lets submissions of one priority take turns', () => {
    const route = new ScriptedRoute();
    route.room = 0;
    const { submit, pump, machine } = setUp([route]);
    submit(new Array<number>(600).fill(1));
    submit([2, 2]);
    submit([3], { priority: 0 });
    pump();
    route.room = 1000;
    machine.ready(route);
    pump();
    expect(route.posts.map(({ slices }) => `${slices.length}x${slices[0]?.length}`)).toEqual([
      '1x3',
      '256x1',
      '2x2',
      '256x1',
      '88x1',
    ]);
  });

  it('carries addresses of 64 bits in two words', () => {
    const { machine, peer, pump } = setUp([]);
    const route = new ScriptedRoute();
    machine.setRoutes(peer, [route]);
    const submission = new Submission({
      peer,
      columns: {
        count: 1,
        opcode: Opcode.read,
        store: new BufferStore(new ArrayBuffer(4000)),
        localOffset: Float64Array.of(0),
        remoteAddress: Uint32Array.of(0xffff_ff00, 0xfffe),
        length: Float64Array.of(4000),
      },
      sliceBytes: 1000,
      priority: 1,
      transportName: undefined,
      states: new Uint8Array(1),
      regions: [],
      onSettled: () => undefined,
    });
    peer.describe({
      ...descriptor(),
      buffers: [
        { name: 'x', address: 0xfffeffffff00n, length: 8192, remoteKeys: [], localKeys: [] },
      ],
    });
    submission.prepareRows(0, 1);
    machine.submit(submission, 0, 1000);
    pump();
    expect(route.posts[0]!.slices.map(({ address }) => address)).toEqual([
      0xfffe_ffff_ff00,
      0xfffe_ffff_ff00 + 1000,
      0xfffe_ffff_ff00 + 2000,
      0xfffe_ffff_ff00 + 3000,
    ]);
  });

  it('reports exactly what is known about the destination of a row that failed', () => {
    const route = new ScriptedRoute();
    const { submit, pump, machine } = setUp([route]);
    const { submission } = submit([4000, 500, 500]);
    pump();
    const { run, slices } = route.posts[0]!;
    expect(slices.map(({ length }) => length)).toEqual([1000, 1000, 1000, 1000, 500, 500]);
    machine.complete(run, 1, Outcome.ok);
    machine.complete(run, 1, Outcome.timeout, lost(), {
      destination: 'unknown',
      appliedBytes: 100,
    });
    machine.complete(run, 1, Outcome.rejected, refused(), { destination: 'untouched' });
    machine.complete(run, 1, Outcome.ok);
    machine.complete(run, 1, Outcome.rejected, refused(), { destination: 'untouched' });
    machine.complete(run, 1, Outcome.protocolError, lost(), {
      destination: 'quiescent',
      appliedBytes: 7,
    });
    pump();
    expect(submission.failures?.get(0)?.destination).toEqual({
      state: 'unknown',
      appliedRanges: [
        [0, 1100],
        [3000, 1000],
      ],
      unknownRanges: [[1100, 900]],
    });
    expect(submission.failures?.get(0)?.error.message).toContain('[1100, 2000)');
    expect(submission.failures?.get(1)?.destination.state).toBe('untouched');
    expect(submission.failures?.get(2)?.destination).toEqual({
      state: 'quiescent',
      appliedRanges: [[0, 7]],
      unknownRanges: [],
    });
  });

  it('ends a submission of which nothing moves, and leaves one alone that moves slowly', () => {
    const route = new ScriptedRoute();
    const { submit, pump, machine } = setUp([route]);
    const slow = submit([10, 10, 10], { stallMs: 500 });
    const long = submit([10], { stallMs: 500 });
    const stuck = submit([10], { stallMs: 500 });
    pump();
    for (let step = 1; step <= 12; step += 1) {
      pump(100);
      if (step === 4 || step === 8) machine.complete(route.posts[0]!.run, 1, Outcome.ok);
      if (step % 4 === 0) machine.progress(route.posts[1]!.run);
    }
    expect(route.canceled).toEqual([route.posts[2]!.run]);
    machine.complete(route.posts[2]!.run, 1, Outcome.canceled, undefined, {
      destination: 'untouched',
    });
    pump();
    expect(stuck.settled[0]?.firstError?.code).toBe('ERR_TE_STALLED');
    expect(stuck.submission.states[0]).toBe(TaskState.timeout);
    expect(slow.settled).toHaveLength(0);
    expect(long.settled).toHaveLength(0);
    machine.complete(route.posts[0]!.run, 1, Outcome.ok);
    machine.complete(route.posts[1]!.run, 1, Outcome.ok);
    pump();
    expect(machine.nextDeadlineMs()).toBeUndefined();
  });

  it('moves to the next transport when the preferred one cannot be connected to', () => {
    const first = new ScriptedRoute('first');
    const second = new ScriptedRoute('second');
    const { submit, pump, machine } = setUp([first, second]);
    submit([10]);
    pump();
    machine.complete(first.posts[0]!.run, 1, Outcome.connectFailed, noConnection());
    pump();
    expect(second.posts).toHaveLength(1);
    submit([20, 30]);
    pump();
    expect(second.posts).toHaveLength(2);
    pump(10);
    pump(10);
    submit([40, 50]);
    pump();
    // Half open: one slice tries, the rest takes the healthy transport.
    expect(first.posts[1]!.slices.map(({ length }) => length)).toEqual([40]);
    expect(second.posts[2]!.slices.map(({ length }) => length)).toEqual([50]);
    machine.complete(first.posts[1]!.run, 1, Outcome.ok);
    submit([60, 70]);
    pump();
    expect(first.posts[2]!.slices).toHaveLength(2);
  });

  it('does not use a slower transport because the preferred one is full', () => {
    const first = new ScriptedRoute('first');
    const second = new ScriptedRoute('second');
    first.room = 1;
    const { submit, pump } = setUp([first, second]);
    submit([10, 20]);
    pump();
    expect(first.posts).toHaveLength(1);
    expect(second.posts).toHaveLength(0);
  });

  it('stops retrying a peer that has used up its budget', () => {
    const route = new ScriptedRoute();
    const { submit, pump, machine } = setUp([route]);
    let refusals = 0;
    for (let round = 0; round < 1100 && refusals === 0; round += 1) {
      const { submission } = submit([10]);
      pump();
      while (!submission.settled) {
        const post = route.posts.at(-1)!;
        machine.complete(post.run, 1, Outcome.peerLost, lost());
        pump();
      }
      if (submission.firstError?.message.includes('used up its retries') === true) refusals += 1;
    }
    expect(refusals).toBe(1);
    expect(machine.counters.retries).toBe(512);
  });

  it('lets a low priority through after a while, although higher ones keep coming', () => {
    const route = new ScriptedRoute();
    route.room = 0;
    const { submit, pump, machine } = setUp([route]);
    submit([1], { priority: 2 });
    const order: number[] = [];
    for (let round = 0; round < 20; round += 1) {
      submit([2], { priority: 0 });
      submit([2], { priority: 0 });
      route.room = 1;
      machine.ready(route);
      pump(5);
      order.push(route.posts.at(-1)!.slices[0]!.length);
    }
    const served = order.indexOf(1);
    expect(served).toBeGreaterThan(3);
    expect(served).toBeLessThan(12);
  });

  it('bounds what is in flight towards a peer, but lets a single long slice through', () => {
    let nowMs = 0;
    const machine = new TransferMachine({
      nowMs: () => nowMs,
      wake: () => undefined,
      attemptsMax: 3,
      inFlightBytesMax: 2500,
    });
    const peer = new PeerQueue('peer');
    const route = new ScriptedRoute();
    machine.setRoutes(peer, [route]);
    const submission = new Submission({
      peer,
      columns: {
        count: 4,
        opcode: Opcode.write,
        store: new BufferStore(new ArrayBuffer(9000)),
        localOffset: new Float64Array(4),
        remoteAddress: new Float64Array(4),
        length: Float64Array.of(5000, 1000, 1000, 1000),
      },
      sliceBytes: Number.POSITIVE_INFINITY,
      priority: 1,
      transportName: undefined,
      states: new Uint8Array(4),
      regions: [],
      onSettled: () => undefined,
    });
    submission.prepareRows(0, 4);
    machine.submit(submission, nowMs, 1000);
    machine.pump((nowMs += 1));
    const lengths = () => route.posts.map(({ slices }) => slices.map(({ length }) => length));
    expect(lengths()).toEqual([[5000]]);
    machine.complete(route.posts[0]!.run, 1, Outcome.ok);
    machine.pump((nowMs += 1));
    expect(lengths()).toEqual([[5000], [1000, 1000]]);
    expect(peer.inFlightBytes).toBe(2000);
    machine.complete(route.posts[1]!.run, 1, Outcome.ok);
    machine.pump((nowMs += 1));
    expect(lengths()).toEqual([[5000], [1000, 1000], [1000]]);
  });

  it('asks the next route for slices that the first one does not reach', () => {
    const near = new ScriptedRoute('near');
    near.reaches = ({ addressLow }) => addressLow < BASE + 1000;
    const far = new ScriptedRoute('far');
    const { submit, pump, machine } = setUp([near, far]);
    const { settled } = submit([600, 400, 100, 50]);
    pump();
    expect(near.posts.map(({ slices }) => slices.map(({ length }) => length))).toEqual([
      [600, 400],
    ]);
    expect(far.posts.map(({ slices }) => slices.map(({ length }) => length))).toEqual([[100, 50]]);
    machine.complete(near.posts[0]!.run, 2, Outcome.ok);
    machine.complete(far.posts[0]!.run, 2, Outcome.ok);
    pump();
    expect(settled).toHaveLength(1);
    expect(machine.counters.retries).toBe(0);
  });

  it('comes back to the first route as soon as it reaches the next slice', () => {
    const near = new ScriptedRoute('near');
    near.reaches = ({ addressLow }) => addressLow % 20 === BASE % 20;
    const far = new ScriptedRoute('far');
    const { submit, pump } = setUp([near, far]);
    submit([10, 10, 10, 10, 20, 20, 10]);
    pump();
    const starts = (route: ScriptedRoute) =>
      route.posts.flatMap(({ slices }) => slices.map(({ address }) => address - BASE));
    expect(starts(near)).toEqual([0, 20, 40, 60, 80]);
    expect(starts(far)).toEqual([10, 30]);
  });

  it('lets the first route refuse what no route reaches', () => {
    const routes = [new ScriptedRoute('near'), new ScriptedRoute('far')] as const;
    for (const route of routes) route.reaches = () => false;
    const { submit, pump, machine } = setUp([...routes]);
    const { settled } = submit([10, 20]);
    pump();
    expect(routes[1].posts).toHaveLength(0);
    expect(routes[0].posts.map(({ slices }) => slices.length)).toEqual([1, 1]);
    for (const { run } of routes[0].posts) machine.complete(run, 1, Outcome.rejected, refused());
    pump();
    expect(settled[0]?.firstError?.code).toBe('ERR_TE_ADDRESS_REJECTED');
  });

  it('waits for the route that reaches a slice, and bothers no other one', () => {
    const near = new ScriptedRoute('near');
    near.reaches = () => false;
    const far = new ScriptedRoute('far');
    const { submit, pump, machine } = setUp([near, far]);
    far.room = 0;
    const { settled } = submit([10]);
    pump();
    expect(near.posts).toHaveLength(0);
    far.room = 1;
    machine.ready(far);
    pump();
    machine.complete(far.posts[0]!.run, 1, Outcome.ok);
    pump();
    expect(settled).toHaveLength(1);
  });

  it('tells producers when there is room again', async () => {
    const route = new ScriptedRoute();
    const { submit, pump, machine, peer } = setUp([route]);
    submit([600]);
    submit([500]);
    pump();
    const seen: string[] = [];
    const below = [
      peer.whenBelow(1100).then(() => seen.push('at once')),
      peer.whenBelow(500).then(() => seen.push('half')),
      peer.whenBelow(0).then(() => seen.push('all')),
    ];
    await below[0];
    machine.complete(route.posts[0]!.run, 1, Outcome.ok);
    await below[1];
    expect(seen).toEqual(['at once', 'half']);
    machine.complete(route.posts[1]!.run, 1, Outcome.ok);
    await below[2];
    expect(peer.pendingBytes).toBe(0);
    expect(peer.inFlightBytes).toBe(0);
  });
});
