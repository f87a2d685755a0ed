import { describe, expect, it } from 'vitest';
import { BufferStore } from '../memory/buffer-store.ts';
import { Outcome } from '../transport/outcome.ts';
import { Opcode } from '../transport/slice.ts';
import { FakeClock } from './fake-clock.ts';
import { RecordingSink } from './recording-sink.ts';
import { SimNetwork, STORMY_FAULTS, type SimFaults, type SimOptions } from './sim-network.ts';
import { SimTransport } from './sim-transport.ts';
import { createTestHost } from './test-host.ts';
import { TestRun } from './test-run.ts';
import { describeSegment } from './transport-fixture.ts';

const NO_SPREAD: SimOptions = { latencyMs: [1, 1], reportDelayMs: [0, 0], connectMs: [1, 1] };

function setUp(seed: number, options: SimOptions = {}) {
  const clock = new FakeClock();
  const network = new SimNetwork(seed, clock, options);
  const sink = new RecordingSink();
  const near = createTestHost({ clock, sink, segmentName: 'near' });
  const far = createTestHost({ clock, segmentName: 'far' });
  const transport = new SimTransport('sim', network, near);
  const target = new SimTransport('sim', network, far);
  void transport.start();
  void target.start();
  const memory = Buffer.alloc(64 * 1024);
  const [region] = far.registry.add([
    { store: new BufferStore(memory), location: '*', permission: 'global-read-write' },
  ]);
  const peer = { descriptor: describeSegment({ transport: target, host: far }), host: 'far' };
  const route = transport.reach(peer);
  if (region === undefined || route === undefined) throw new Error('set-up failed');
  const local = Buffer.alloc(memory.length, 0x5a);
  const write = (count: number, length = 1024, name?: string) =>
    new TestRun(
      Array.from({ length: count }, (_, index) => ({
        opcode: Opcode.write,
        local,
        offset: index * length,
        length,
        address: region.address + index * length,
      })),
      name,
    );
  return { clock, network, sink, route, transport, target, region, memory, local, write };
}

describe('simulated transport', () => {
  it('repeats itself with the same seed, and not with another', () => {
    const play = (seed: number) => {
      const { clock, network, sink, route, write } = setUp(seed, { faults: STORMY_FAULTS });
      for (let index = 0; index < 20; index += 1) route.post(write(10));
      clock.runAll();
      return { hash: network.traceHash, trace: network.trace, total: sink.total };
    };
    expect(play(7)).toEqual(play(7));
    expect(play(7).hash).not.toBe(play(8).hash);
    expect(play(7).trace[0]).toMatch(/^\d+\.\d{3} \S+ /);
  });

  const certain: Record<string, [Partial<SimFaults>, Outcome]> = {
    loss: [{ loss: 1 }, Outcome.peerLost],
    'a lost answer': [{ answerLoss: 1 }, Outcome.peerLost],
    'a refusal': [{ reject: 1 }, Outcome.rejected],
    'a broken protocol': [{ protocolError: 1 }, Outcome.protocolError],
    'a fault of our side': [{ localFault: 1 }, Outcome.localFault],
    'no connection': [{ connectFail: 1 }, Outcome.connectFailed],
  };
  for (const [what, [faults, outcome]] of Object.entries(certain)) {
    it(`makes ${what}`, () => {
      const { clock, sink, route, write } = setUp(1, { faults });
      const run = write(1);
      route.post(run);
      clock.runAll();
      expect(sink.codesOf(run)).toEqual([outcome]);
      expect(sink.of(run)[0]?.error?.message).toBeDefined();
    });
  }

  it('lets bytes land after the outcome only when it said so, and only those it had', () => {
    const { clock, sink, route, write, memory, local } = setUp(3, {
      ...NO_SPREAD,
      faults: { loss: 1, lateBytes: 1 },
      lateMs: [10, 10],
    });
    const run = write(1, 4096);
    route.post(run);
    while (sink.of(run).length === 0) clock.step();
    expect(sink.of(run)[0]?.aftermath.destination).toBe('unknown');
    const before = Buffer.from(memory);
    local.fill(0x11);
    clock.runAll();
    expect(memory.equals(before)).toBe(false);
    expect(memory.includes(0x11)).toBe(false);
  });

  it('takes few when it is told to, and says when there is room', () => {
    const { clock, sink, route, write } = setUp(1, { faults: { shortPost: 1 } });
    const run = write(40);
    for (let round = 0; run.left > 0 && round < 1000; round += 1) {
      expect(route.post(run)).toBeLessThan(4);
      clock.runAll();
    }
    expect(run.left).toBe(0);
    expect(sink.readyRoutes.length).toBeGreaterThan(0);
  });

  it('loses who is killed, and serves who was revived', () => {
    const { clock, network, sink, route, write } = setUp(1, { ...NO_SPREAD, lanesPerPeer: 1 });
    const run = write(3);
    route.post(run);
    clock.advance(1.5);
    network.kill('far');
    clock.advance(10);
    const first = sink.codesOf(run)[0];
    expect([Outcome.peerLost, Outcome.replay]).toContain(first);
    expect(sink.codesOf(run).slice(1)).toEqual([Outcome.replay, Outcome.replay]);
    const late = write(1);
    route.post(late);
    clock.advance(10);
    expect(sink.codesOf(late)).toEqual([Outcome.connectFailed]);
    network.revive('far');
    const again = write(3);
    route.post(again);
    clock.advance(20);
    expect(sink.codesOf(again)).toEqual([Outcome.ok, Outcome.ok, Outcome.ok]);
  });

  it('holds everything during a partition, and goes on after it', () => {
    const { clock, network, sink, route, write } = setUp(1, { ...NO_SPREAD, lanesPerPeer: 1 });
    route.post(write(1, 16, 'opens the connection'));
    clock.advance(10);
    const run = write(2);
    route.post(run);
    network.partition('near', 'far');
    clock.advance(1000);
    expect(sink.of(run)).toEqual([]);
    network.heal('far', 'near');
    clock.advance(20);
    expect(sink.codesOf(run)).toEqual([Outcome.ok, Outcome.ok]);
  });

  it('gives up on a peer that never answers', () => {
    const { clock, network, sink, route, write } = setUp(1, {
      ...NO_SPREAD,
      lanesPerPeer: 1,
      statusTimeoutMs: 100,
    });
    route.post(write(1, 16));
    clock.advance(10);
    network.partition('near', 'far');
    const run = write(2);
    route.post(run);
    clock.advance(99);
    expect(sink.of(run)).toEqual([]);
    clock.advance(5);
    expect(sink.codesOf(run)).toEqual([Outcome.timeout, Outcome.replay]);
  });

  it('ends what is served after the grace, and replays the others on its lane', () => {
    const { clock, network, sink, route, write } = setUp(1, { ...NO_SPREAD, lanesPerPeer: 1 });
    route.post(write(1, 16));
    clock.advance(10);
    network.partition('near', 'far');
    const canceled = write(2);
    const other = write(2);
    route.post(canceled);
    route.post(other);
    clock.advance(5);
    route.cancel(canceled, 30);
    clock.advance(29);
    expect(sink.of(canceled)).toEqual([]);
    clock.advance(2);
    expect(sink.codesOf(canceled)).toEqual([Outcome.canceled, Outcome.canceled]);
    expect(sink.codesOf(other)).toEqual([Outcome.replay, Outcome.replay]);
  });

  it('lets runs overtake each other, and never a run itself', () => {
    const { clock, sink, route, write } = setUp(5, { lanesPerPeer: 4 });
    const order: string[] = [];
    const runs = Array.from({ length: 10 }, (_, index) => write(3, 512, `run ${index}`));
    for (const run of runs) route.post(run);
    sink.onChange(() => {
      for (const run of runs) {
        if (sink.of(run).length === 3 && !order.includes(run.name)) order.push(run.name);
      }
    });
    clock.runAll();
    expect(order).toHaveLength(10);
    expect(order).not.toEqual([...order].sort());
  });
});
