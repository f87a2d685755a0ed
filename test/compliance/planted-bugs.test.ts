import {
  EngineError,
  Opcode,
  Outcome,
  Slice,
  type BufferStore,
  type CompletionSink,
  type MemoryRegistry,
  type Peer,
  type RegisteredRegion,
  type Route,
  type SliceRun,
  type Transport,
  type TransportFactory,
  type TransportHost,
} from '@transfer-engine/core/transport';
import {
  applicableCases,
  FakeClock,
  MemoryNetwork,
  memoryTransport,
  pairFixture,
  transportCompliance,
  type MemoryTransportOptions,
} from '@transfer-engine/core/testing';
import { describe, expect, it } from 'vitest';

/** The same object with other values for some members. */
function override<T extends object>(whole: T, members: Partial<T>): T {
  return new Proxy(whole, {
    get(target, property) {
      if (property in members) return Reflect.get(members, property) as unknown;
      const member: unknown = Reflect.get(target, property, target);
      return typeof member === 'function' ? (member.bind(target) as unknown) : member;
    },
  });
}

interface Bug {
  /** A part of the name of cases of which one at least has to fail. */
  readonly caughtBy: string;
  readonly options?: MemoryTransportOptions;
  /** Changes what the transport reports. */
  sink?(sink: CompletionSink, host: TransportHost): Partial<CompletionSink>;
  registry?(registry: MemoryRegistry): Partial<MemoryRegistry>;
  /** Changes a route; `network` leads to the memory of targets. */
  route?(route: Route, host: TransportHost, peerMemory: () => BufferStore): Partial<Route>;
  transport?(transport: Transport): Partial<Transport>;
}

/** A run that hides or changes what the transport sees. */
class AlteredRun implements SliceRun {
  readonly inner: SliceRun;
  readonly #alter: (slice: Slice) => void;
  constructor(inner: SliceRun, alter: (slice: Slice) => void) {
    this.inner = inner;
    this.#alter = alter;
  }
  peek(into: Slice): boolean {
    if (!this.inner.peek(into)) return false;
    this.#alter(into);
    return true;
  }
  take(): void {
    this.inner.take();
  }
}

/** Posts altered slices, and reports for the run that they came from. */
function altering(caughtBy: string, alter: (slice: Slice) => void): Bug {
  return {
    caughtBy,
    sink: (sink) => ({
      complete: (run, ...rest) => {
        sink.complete(run instanceof AlteredRun ? run.inner : run, ...rest);
      },
    }),
    route: (route) => {
      const altered = new WeakMap<SliceRun, AlteredRun>();
      return {
        post: (run) => {
          const other = altered.get(run) ?? new AlteredRun(run, alter);
          altered.set(run, other);
          return route.post(other);
        },
        cancel: (run, graceMs) => route.cancel(altered.get(run) ?? run, graceMs),
      };
    },
  };
}

const bugs: Record<string, Bug> = {
  'completes a slice twice': {
    caughtBy: 'stats are numbers',
    sink: (sink) => {
      let calls = 0;
      return {
        complete: (run, count, outcome, error, quiescent) => {
          sink.complete(run, count, outcome, error, quiescent);
          if ((calls += 1) === 1) sink.complete(run, 1, outcome, error, quiescent);
        },
      };
    },
  },
  'completes inside post': {
    caughtBy: 'stats are numbers',
    sink: () => ({ complete: () => {} }),
    route: (route, { sink }) => ({
      post: (run) => {
        const taken = route.post(run);
        if (taken > 0) sink.complete(run, taken, Outcome.ok);
        return taken;
      },
    }),
  },
  'loses an outcome': {
    caughtBy: 'writes of every size',
    sink: (sink) => {
      let slices = 0;
      return {
        complete: (run, count, ...rest) => {
          slices += count;
          const lost = slices >= 5 && slices - count < 5 ? 1 : 0;
          if (count - lost > 0) sink.complete(run, count - lost, ...rest);
        },
      };
    },
  },
  'gives no sign after back-pressure': {
    caughtBy: 'a full route takes fewer',
    options: { queueSlices: 3 },
    sink: (sink) => ({
      complete: (run, count, ...rest) => {
        // Held back until the next turn of the route, which never comes by itself.
        if (count > 1) sink.complete(run, count - 1, ...rest);
      },
      ready: () => {},
    }),
  },
  'reports outcomes of a run in the wrong order': {
    caughtBy: 'one outcome, in order',
    sink: (sink) => {
      let held: (() => void)[] = [];
      return {
        complete: (...call) => {
          if (held.length === 0) {
            queueMicrotask(() => {
              const calls = held.reverse();
              held = [];
              for (const each of calls) each();
            });
          }
          held.push(() => sink.complete(...call));
        },
      };
    },
  },
  'takes slices without counting them': {
    caughtBy: 'stats are numbers',
    route: (route) => ({ post: (run) => Math.max(route.post(run) - 1, 0) }),
  },
  'takes more than the run offers': {
    caughtBy: 'stats are numbers',
    route: (route) => ({
      post: (run) => {
        const taken = route.post(run);
        if (taken > 0) run.take();
        return taken;
      },
    }),
  },
  'throws when it is full': {
    caughtBy: 'a full route takes fewer',
    options: { queueSlices: 3 },
    route: (route) => ({
      post: (run) => {
        const taken = route.post(run);
        if (run.peek(new Slice())) throw new Error('queue full');
        return taken;
      },
    }),
  },
  'says ok before the bytes are there': {
    caughtBy: 'the bytes of a write are there',
    options: { copy: false },
    route: (route, _, peerMemory) => ({
      post: (run) => {
        const late: { store: BufferStore; offset: number; length: number; at: number }[] = [];
        const memory = peerMemory();
        const base = firstAddress;
        const watching: SliceRun = {
          peek: (into) => run.peek(into),
          take: () => {
            const slice = new Slice();
            run.peek(slice);
            const at = slice.addressHigh * 2 ** 32 + slice.addressLow - base;
            const { offset, length } = slice;
            if (slice.opcode === Opcode.write && at >= 0 && at + length <= memory.length) {
              late.push({ store: slice.store as BufferStore, offset, length, at });
            }
            run.take();
          },
        };
        owners.set(watching, run);
        const taken = route.post(watching);
        setImmediate(() => {
          for (const { store, offset, length, at } of late) {
            memory.bytes.set(store.view(offset, length), at);
          }
        });
        return taken;
      },
    }),
    sink: (sink) => ({
      complete: (run, ...rest) => sink.complete(owners.get(run) ?? run, ...rest),
    }),
  },
  'says ok and moves nothing': { caughtBy: 'writes of every size', options: { copy: false } },
  'writes again after the outcome': {
    caughtBy: 'cancelled reads end soon',
    sink: (sink) => ({
      complete: (run, count, outcome, ...rest) => {
        sink.complete(run, count, outcome, ...rest);
        const { store } = lastSlice;
        if (store !== undefined)
          setImmediate(() => void store.writeFrom(Buffer.alloc(Math.min(64, store.length), 1), 0));
      },
    }),
    route: (route) => ({
      post: (run) => {
        run.peek(lastSlice);
        return route.post(run);
      },
    }),
  },
  'ignores permissions': {
    caughtBy: 'that peers may only read',
    registry: (registry) => ({
      resolveRemote: (address, length) =>
        [...registry.regions()].find(
          (region) => address >= region.address && address + length <= region.end,
        ),
    }),
  },
  'joins neighbouring regions': {
    caughtBy: 'two regions that touch',
    registry: (registry) => ({
      resolveRemote: (address, length, access) =>
        registry.resolveRemote(address, length, access) ??
        (registry.resolveRemote(address, 1, access) &&
          registry.resolveRemote(address + length - 1, 1, access) &&
          joined(registry, address)),
    }),
  },
  'serves regions that were unregistered': {
    caughtBy: 'that was unregistered',
    transport: () => ({
      attach: (regions) => {
        for (const region of regions) everAttached.add(region);
        return Promise.resolve();
      },
    }),
    registry: (registry) => ({
      resolveRemote: (address, length, access) =>
        registry.resolveRemote(address, length, access) ??
        [...everAttached].find(
          (region) => address >= region.address && address + length <= region.end,
        ),
    }),
  },
  'looks at 32 bits of the address only where it matters': altering('beyond 2^53', (slice) => {
    slice.addressHigh &= 0xffff;
  }),
  'shifts odd offsets': altering('writes of every size', (slice) => {
    if (slice.length > 1) slice.offset -= slice.offset % 2;
  }),
  'moves one byte too few': altering('writes of every size', (slice) => {
    if (slice.length > 1) slice.length -= 1;
  }),
  'takes reads for writes': altering('reads of every size', (slice) => {
    slice.opcode = Opcode.write;
  }),
  'fails the neighbours of a refused slice': {
    caughtBy: 'far outside of everything',
    sink: (sink) => {
      let refused = false;
      return {
        complete: (run, count, outcome, error, quiescent) => {
          if (refused && outcome === Outcome.ok) {
            sink.complete(run, count, Outcome.peerLost, error, quiescent);
          } else sink.complete(run, count, outcome, error, quiescent);
          refused = outcome === Outcome.rejected;
        },
      };
    },
  },
  'ignores cancel': { caughtBy: 'can be cancelled at once', route: () => ({ cancel: () => {} }) },
  'cancels everything on the route': {
    caughtBy: 'cancelling one run',
    route: (route) => {
      const runs = new Set<SliceRun>();
      return {
        post: (run) => {
          runs.add(run);
          return route.post(run);
        },
        cancel: (_, graceMs) => {
          for (const run of runs) route.cancel(run, graceMs);
        },
      };
    },
  },
  'takes slices after close': {
    caughtBy: 'close ends all',
    route: (route, host) => {
      let closed = false;
      return {
        post: (run) => {
          if (!closed) return route.post(run);
          if (!run.peek(new Slice())) return 0;
          run.take();
          queueMicrotask(() => host.sink.complete(run, 1, Outcome.canceled));
          return 1;
        },
        close: async () => {
          closed = true;
          await route.close();
        },
      };
    },
  },
  'resolves close too early': {
    caughtBy: 'close ends all',
    route: (route) => ({
      close: () => {
        void route.close();
        return Promise.resolve();
      },
    }),
    sink: (sink) => ({
      complete: (...call) => {
        setImmediate(() => sink.complete(...call));
      },
    }),
  },
  'never ends close': {
    caughtBy: 'close of an idle route',
    route: () => ({ close: () => new Promise<void>(() => {}) }),
  },
  'reaches everybody': {
    caughtBy: 'other protocols',
    transport: (transport) => ({
      reach: (peer: Peer) =>
        transport.reach({
          ...peer,
          descriptor: { ...peer.descriptor, protocols: [transport.name] },
        }),
    }),
  },
  'sends everything to the first peer': {
    caughtBy: 'two peers',
    transport: (transport) => ({
      reach: (peer: Peer) =>
        transport.reach({ ...peer, descriptor: { ...peer.descriptor, name: 'target-1' } }),
    }),
  },
  'reports an error with success': {
    caughtBy: 'stats are numbers',
    sink: (sink) => ({
      complete: (run, count, outcome) =>
        sink.complete(run, count, outcome, new EngineError('ERR_TE_INTERNAL', 'stray')),
    }),
  },
  'counts in text': {
    caughtBy: 'stats are numbers',
    transport: () => ({ stats: () => ({ slices: 'many' as unknown as number }) }),
  },
};

const owners = new WeakMap<SliceRun, SliceRun>();
const everAttached = new Set<RegisteredRegion>();
const lastSlice = new Slice();
let firstAddress = 0;

/** A region that spans the two neighbours at an address: what a careless registry would find. */
function joined(registry: MemoryRegistry, address: number): RegisteredRegion | undefined {
  return [...registry.regions()].find(
    (region) => address >= region.address && address < region.end,
  );
}

function plant(bug: Bug, factory: TransportFactory, memoryOf: () => BufferStore): TransportFactory {
  return {
    name: factory.name,
    create(host) {
      const planted = new WeakMap<Route, Route>();
      const told = override(host.sink, {
        ready: (route) => host.sink.ready(planted.get(route) ?? route),
      });
      const sink = override(told, bug.sink?.(told, host) ?? {});
      const registry = override(host.registry, bug.registry?.(host.registry) ?? {});
      const inner = factory.create(override(host, { sink, registry }));
      const transport = override(inner, bug.transport?.(inner) ?? {});
      return override(transport, {
        reach: (peer) => {
          const route = transport.reach(peer);
          if (route === undefined) return undefined;
          const other = override(route, bug.route?.(route, host, memoryOf) ?? {});
          planted.set(route, other);
          return other;
        },
      });
    },
  };
}

/** Names of the cases that fail when the bug is planted. */
async function failuresWith(bug: Bug): Promise<string[]> {
  const failed: string[] = [];
  const cases = applicableCases(transportCompliance, ['applied-writes']);
  for (const { name, run } of cases.filter((each) => each.name.includes(bug.caughtBy))) {
    const fixture = pairFixture(
      () => {
        const network = new MemoryNetwork();
        // Time is counted in turns, so that a slow machine is not taken for a bug.
        const clock = new FakeClock();
        const memoryOf = (): BufferStore => {
          const [region] = network.find('target-1')?.host.registry.regions() ?? [];
          if (region === undefined) throw new Error('the target has no memory');
          firstAddress = region.address;
          return region.store as BufferStore;
        };
        return {
          factory: () => plant(bug, memoryTransport(network, bug.options), memoryOf),
          host: { clock },
          async turn() {
            clock.advance(1);
            await new Promise<void>((resolve) => setImmediate(resolve));
          },
        };
      },
      { waitLimitMs: 1000 },
    );
    await run(fixture).catch(() => failed.push(name));
  }
  return failed;
}

describe('the suite notices a transport that', () => {
  for (const [what, bug] of Object.entries(bugs)) {
    it(what, async () => {
      const failed = await failuresWith(bug);
      expect(failed).not.toEqual([]);
    });
  }

  it('and lets a transport without a bug pass', async () => {
    expect(await failuresWith({ caughtBy: '' })).toEqual([]);
  });
});
