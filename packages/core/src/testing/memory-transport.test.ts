import { describe, expect, it } from 'vitest';
import { BufferStore } from '../memory/buffer-store.ts';
import type { ByteStore } from '../memory/byte-store.ts';
import type { SegmentDescriptor } from '../segment/segment-descriptor.ts';
import { Outcome } from '../transport/outcome.ts';
import { Opcode } from '../transport/slice.ts';
import type { Transport, TransportHost } from '../transport/transport.ts';
import { MemoryNetwork, memoryTransport, type MemoryTransportOptions } from './memory-transport.ts';
import { RecordingSink } from './recording-sink.ts';
import { createTestHost } from './test-host.ts';
import { TestRun } from './test-run.ts';

const peerNamed = (name: string) => {
  const descriptor: SegmentDescriptor = {
    name,
    protocols: ['memory'],
    tcpDataPort: 0,
    tcpProtoVersion: 1,
    buffers: [],
    devices: [],
    priorityMatrix: {},
  };
  return { descriptor, host: 'localhost' };
};

async function createPair(options: MemoryTransportOptions = {}) {
  const network = new MemoryNetwork();
  const sink = new RecordingSink();
  const make = async (
    segmentName: string,
  ): Promise<{ host: TransportHost; transport: Transport }> => {
    const host = createTestHost({ segmentName, sink });
    const transport = memoryTransport(network, options).create(host);
    await transport.start();
    return { host, transport };
  };
  const near = await make('near');
  const far = await make('far');
  const route = near.transport.reach(peerNamed('far'));
  if (route === undefined) throw new Error('the peer is not reachable');
  const register = (store: ByteStore) => {
    const [region] = far.host.registry.add([
      { store, location: '*', permission: 'global-read-write' },
    ]);
    if (region === undefined) throw new Error('nothing was registered');
    return region;
  };
  return { network, sink, near, far, route, register };
}

/** A store that needs a turn of the event loop for every copy. */
class SlowStore implements ByteStore {
  readonly length: number;
  readonly bytes: Buffer;
  constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.length = bytes.length;
  }
  async readInto(target: Uint8Array, offset: number): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.bytes.copy(target, 0, offset, offset + target.byteLength);
  }
  async writeFrom(source: Uint8Array, offset: number): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.bytes.set(source, offset);
  }
}

describe('memory transport', () => {
  it('ends many slices with few calls, in a later turn', async () => {
    const { sink, route, register } = await createPair();
    const region = register(new BufferStore(Buffer.alloc(4096)));
    const local = Buffer.alloc(4096, 7);
    const slices = Array.from({ length: 1000 }, (_, i) => ({
      opcode: Opcode.write,
      local,
      offset: i,
      length: 1,
      address: region.address + i,
    }));
    const run = new TestRun(slices);
    expect(route.post(run)).toBe(1000);
    expect(sink.total).toBe(0);
    await sink.settled(run, 1000);
    expect(sink.calls).toBe(1);
    expect(new Set(sink.codesOf(run))).toEqual(new Set([Outcome.ok]));
    expect((region.store as BufferStore).bytes.subarray(0, 1001)).toEqual(
      Buffer.concat([Buffer.alloc(1000, 7), Buffer.alloc(1)]),
    );
  });

  it('pushes back when its queue is full, and says when there is room', async () => {
    const { sink, route, register } = await createPair({ queueSlices: 100 });
    const region = register(new BufferStore(Buffer.alloc(8)));
    const slice = { opcode: Opcode.read, local: Buffer.alloc(8), address: region.address };
    const run = new TestRun(Array.from({ length: 250 }, () => slice));
    expect(route.post(run)).toBe(100);
    expect(route.post(run)).toBe(0);
    await sink.until(() => sink.readyRoutes.length === 1);
    expect(sink.readyRoutes[0]).toBe(route);
    expect(route.post(run)).toBe(100);
    await sink.until(() => sink.readyRoutes.length === 2);
    expect(route.post(run)).toBe(50);
    await sink.settled(run, 250);
  });

  it('cancels what waits, and may be posted again from inside an outcome', async () => {
    const { sink, route, register } = await createPair();
    const region = register(new BufferStore(Buffer.alloc(8)));
    const slice = { opcode: Opcode.write, local: Buffer.alloc(8, 1), address: region.address };
    const first = new TestRun([slice, slice]);
    const second = new TestRun([slice]);
    const third = new TestRun([slice]);
    route.post(first);
    route.post(second);
    const stop = sink.onChange(() => {
      stop();
      route.post(third);
    });
    route.cancel(first, 0);
    await sink.settled(third, 1);
    expect(sink.codesOf(first)).toEqual([Outcome.canceled, Outcome.canceled]);
    expect(sink.codesOf(second)).toEqual([Outcome.ok]);
    expect(sink.codesOf(third)).toEqual([Outcome.ok]);
  });

  it('waits for stores that need time, in order, also when a region is detached', async () => {
    const { sink, route, far, register } = await createPair();
    const region = register(new SlowStore(Buffer.alloc(64)));
    const quick = register(new BufferStore(Buffer.alloc(64)));
    const local = Buffer.alloc(64, 9);
    const run = new TestRun([
      { opcode: Opcode.write, local, address: region.address },
      { opcode: Opcode.write, local, address: quick.address },
    ]);
    route.post(run);
    await Promise.resolve();
    await Promise.resolve();
    expect(sink.total).toBe(0);
    far.host.registry.retire(region);
    await far.transport.detach?.([region]);
    expect((region.store as SlowStore).bytes.every((byte) => byte === 9)).toBe(true);
    await sink.settled(run, 2);
    expect(sink.codesOf(run)).toEqual([Outcome.ok, Outcome.ok]);
  });

  it('reports a failing store as a fault of our side', async () => {
    const { sink, route, register } = await createPair();
    const broken: ByteStore = {
      length: 8,
      readInto: () => Promise.reject(new Error('disk on fire')),
      writeFrom: () => Promise.reject(new Error('disk on fire')),
    };
    const region = register(new BufferStore(Buffer.alloc(8)));
    const run = new TestRun([
      { opcode: Opcode.write, local: broken, address: region.address },
      { opcode: Opcode.write, local: Buffer.alloc(8), address: region.address },
    ]);
    route.post(run);
    await sink.settled(run, 2);
    expect(sink.codesOf(run)).toEqual([Outcome.localFault, Outcome.ok]);
    expect(sink.of(run)[0]?.error?.message).toContain('disk on fire');
  });

  it('cannot connect to who is not there, and takes nothing when closed', async () => {
    const { sink, near, far, route, register } = await createPair();
    const region = register(new BufferStore(Buffer.alloc(8)));
    const slice = { opcode: Opcode.write, local: Buffer.alloc(8), address: region.address };
    await far.transport.close();
    const run = new TestRun([slice, slice]);
    route.post(run);
    await sink.settled(run, 2);
    expect(sink.codesOf(run)).toEqual([Outcome.connectFailed, Outcome.connectFailed]);
    const late = new TestRun([slice]);
    route.post(late);
    await near.transport.close();
    expect(sink.codesOf(late)).toEqual([Outcome.canceled]);
    expect(route.post(new TestRun([slice]))).toBe(0);
    expect(near.transport.reach(peerNamed('far'))).toBeUndefined();
  });
});
