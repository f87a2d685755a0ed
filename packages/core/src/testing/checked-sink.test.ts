import { describe, expect, it } from 'vitest';
import { EngineError } from '../base/errors.ts';
import { Outcome } from '../transport/outcome.ts';
import { Opcode, Slice, type SliceRun } from '../transport/slice.ts';
import type { Route } from '../transport/transport.ts';
import { CheckedSink, checkedTransport } from './checked-sink.ts';
import { MemoryNetwork, memoryTransport } from './memory-transport.ts';
import { RecordingSink } from './recording-sink.ts';
import { createTestHost } from './test-host.ts';
import { TestRun } from './test-run.ts';

const slices = (count: number) =>
  Array.from({ length: count }, () => ({
    opcode: Opcode.write,
    local: Buffer.alloc(4),
    address: 4096,
  }));

function setUp(post: (run: SliceRun, sink: CheckedSink) => number) {
  const inner = new RecordingSink();
  const problems: string[] = [];
  const sink = new CheckedSink(inner, { onViolation: (message) => problems.push(message) });
  const taken: SliceRun[] = [];
  const transport = memoryTransport(new MemoryNetwork()).create(createTestHost());
  const bare: Route = {
    transport,
    peer: { descriptor: {} as Route['peer']['descriptor'], host: '' },
    sliceBytes: 1,
    writeDurability: 'applied',
    post: (run) => {
      taken.push(run);
      return post(run, sink);
    },
    cancel: () => undefined,
    close: () => Promise.resolve(),
  };
  return { inner, problems, sink, taken, bare, route: sink.route(bare) };
}

function takeAll(run: SliceRun): number {
  let count = 0;
  for (const slice = new Slice(); run.peek(slice); count += 1) run.take();
  return count;
}

describe('CheckedSink', () => {
  it('passes on what is right, under the name of the run that was posted', () => {
    const { inner, problems, sink, taken, route } = setUp(takeAll);
    const run = new TestRun(slices(3));
    expect(route.post(run)).toBe(3);
    expect(sink.owned).toBe(3);
    sink.progress(taken[0] as SliceRun);
    sink.complete(taken[0] as SliceRun, 2, Outcome.ok);
    sink.complete(taken[0] as SliceRun, 1, Outcome.peerLost, undefined, false);
    expect(inner.codesOf(run)).toEqual([Outcome.ok, Outcome.ok, Outcome.peerLost]);
    expect(inner.of(run)[2]?.aftermath).toEqual({ destination: 'unknown' });
    expect(inner.progressOf(run)).toBe(1);
    expect(sink.owned).toBe(0);
    expect(problems).toEqual([]);
  });

  const broken: Record<string, (set: ReturnType<typeof setUp>, run: SliceRun) => void> = {
    'one slice, one outcome': ({ sink }, run) => sink.complete(run, 3, Outcome.ok),
    'a number from 1 on': ({ sink }, run) => sink.complete(run, 0, Outcome.ok),
    'no such outcome': ({ sink }, run) => sink.complete(run, 1, 99 as Outcome),
    'has no error': ({ sink }, run) =>
      sink.complete(run, 1, Outcome.ok, new EngineError('ERR_TE_INTERNAL', 'stray')),
    'does not change any more': ({ sink }, run) =>
      sink.complete(run, 1, Outcome.rejected, undefined, { destination: 'unknown' }),
    'never posted through this sink': ({ sink }) =>
      sink.complete(new TestRun([]), 1, Outcome.canceled),
    'though post took all': ({ sink, bare }) => sink.ready(bare),
    'nothing is owned': ({ sink }) => sink.progress(new TestRun([])),
  };
  for (const [message, act] of Object.entries(broken)) {
    it(`notices: ${message}`, () => {
      const set = setUp(takeAll);
      set.route.post(new TestRun(slices(2)));
      act(set, set.taken[0] as SliceRun);
      expect(set.problems.join('\n')).toContain(message);
    });
  }

  it('notices outcomes inside post, and posts that count wrongly', () => {
    const inside = setUp((run, sink) => {
      const count = takeAll(run);
      sink.complete(run, count, Outcome.ok);
      return count + 1;
    });
    inside.route.post(new TestRun(slices(2)));
    expect(inside.problems.join('\n')).toContain('inside post');
    expect(inside.problems.join('\n')).toContain('post returned 3, and took 2 slices');
  });

  it('notices a close that leaves slices behind, and outcomes after it', async () => {
    const { problems, sink, taken, route } = setUp(takeAll);
    route.post(new TestRun(slices(2)));
    await route.close();
    expect(problems).toEqual(['close resolved while 2 slices had no outcome']);
    sink.complete(taken[0] as SliceRun, 1, Outcome.canceled);
    expect(problems[1]).toContain('came after the route was closed');
  });

  it('notices slices that make no sense', () => {
    const { problems, route } = setUp(takeAll);
    const local = Buffer.alloc(4);
    route.post(new TestRun([{ opcode: Opcode.read, local, offset: 2, length: 3, address: 1 }]));
    route.post(new TestRun([{ opcode: Opcode.read, local, length: 0, address: 1 }]));
    expect(problems).toHaveLength(2);
    expect(problems[0]).toContain('offers 3 bytes at 2 of 4');
  });

  it('throws when nobody wants to hear', () => {
    const sink = new CheckedSink(new RecordingSink());
    expect(() => sink.complete(new TestRun([]), 1, Outcome.ok)).toThrow('invariant broken');
  });

  it('wraps a whole transport, and the parts keep working', async () => {
    const network = new MemoryNetwork();
    const inner = new RecordingSink();
    const host = createTestHost({ segmentName: 'self', sink: inner });
    const transport = checkedTransport(memoryTransport(network)).create(host);
    await transport.start();
    const route = transport.reach({
      descriptor: {
        name: 'nobody',
        protocols: ['memory'],
        tcpDataPort: 0,
        tcpProtoVersion: 1,
        buffers: [],
        devices: [],
        priorityMatrix: {},
      },
      host: '',
    });
    const run = new TestRun(slices(1));
    expect(route?.post(run)).toBe(1);
    await inner.settled(run, 1);
    expect(inner.codesOf(run)).toEqual([Outcome.connectFailed]);
    expect(transport.stats?.()).toMatchObject({ routes: 1 });
    await transport.close();
  });
});
