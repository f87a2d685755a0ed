import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, describe, expect, it } from 'vitest';
import { TaskState } from '../base/error-codes.ts';
import type { EngineError } from '../base/errors.ts';
import { BufferStore } from '../memory/buffer-store.ts';
import { MemoryDirectory, MemoryStore } from '../metadata/memory-store.ts';
import { MemoryNetwork, memoryTransport } from '../testing/index.ts';
import type { TransportFactory } from '../transport/transport.ts';
import { createEngine } from './create-engine.ts';
import { flightOf } from './telemetry.ts';
import type { Columns, Engine, EngineOptions } from './engine-api.ts';

const open: Engine[] = [];

async function engine(network: MemoryNetwork, options: EngineOptions = {}): Promise<Engine> {
  const made = await createEngine({
    transports: [memoryTransport(network)],
    environment: {},
    ...options,
  });
  open.push(made);
  return made;
}

async function pair(options: { target?: EngineOptions; initiator?: EngineOptions } = {}) {
  const network = new MemoryNetwork();
  const target = await engine(network, options.target);
  const initiator = await engine(network, options.initiator);
  const memory = Buffer.alloc(64 * 1024);
  const region = await target.registerMemory(memory);
  const segment = await initiator.openSegment(target.segmentName);
  return { network, target, initiator, memory, region, segment };
}

const code = async (work: Promise<unknown> | (() => unknown)): Promise<string> => {
  try {
    await (typeof work === 'function' ? work() : work);
  } catch (error) {
    return (error as EngineError).code;
  }
  return 'no error';
};

afterEach(async () => {
  await Promise.all(open.splice(0).map((made) => made.close()));
});

describe('engine', () => {
  it('moves bytes both ways and says so', async () => {
    const { initiator, memory, region, segment } = await pair();
    const source = Buffer.from('hello, segment');
    const written = await initiator.write({
      segment,
      local: source,
      remoteAddress: region.address + 10n,
    });
    expect(written).toMatchObject({
      bytes: 14,
      durability: 'applied',
      attempts: 1,
      transport: 'memory',
    });
    expect(memory.toString('utf8', 10, 24)).toBe('hello, segment');
    const copy = Buffer.alloc(20);
    await initiator.read({
      segment,
      local: copy,
      localOffset: 6,
      length: 5,
      remoteAddress: region.address + 10n,
    });
    expect(copy.toString('latin1')).toBe(`${'\0'.repeat(6)}hello${'\0'.repeat(9)}`);
  });

  it('completes zero bytes without looking at the address', async () => {
    const { initiator, segment } = await pair();
    const result = await initiator.write({
      segment,
      local: Buffer.alloc(4),
      length: 0,
      remoteAddress: 1n,
    });
    expect(result).toMatchObject({ bytes: 0, attempts: 1 });
  });

  it('refuses wrong arguments by name before anything happens', async () => {
    const { initiator, target, memory, region, segment } = await pair();
    const local = Buffer.alloc(8, 1);
    const remoteAddress = region.address;
    const bad: [object, RegExp][] = [
      [{ segment: {}, local, remoteAddress }, /request\.segment/],
      [
        { segment: await target.openSegment(target.segmentName), local, remoteAddress },
        /request\.segment/,
      ],
      [{ segment, local: 'text', remoteAddress }, /request\.local is "text"/],
      [
        { segment, local, localOffset: 9, remoteAddress },
        /request\.localOffset is 9; accepted: .* 0 to 8/,
      ],
      [{ segment, local, localOffset: 1, length: 8, remoteAddress }, /request\.length is 8/],
      [{ segment, local, length: 1.5, remoteAddress }, /request\.length is 1\.5/],
      [{ segment, local, remoteAddress: 5 }, /request\.remoteAddress is 5/],
      [{ segment, local, remoteAddress: (1n << 64n) - 4n }, /request\.remoteAddress/],
      [{ segment, local: region, remoteAddress }, /not registered with this engine/],
    ];
    for (const [request, message] of bad) {
      await expect(initiator.write(request as never)).rejects.toThrow(message);
    }
    const good = { segment, local, remoteAddress };
    await expect(initiator.write(good, { timeoutMs: 0 })).rejects.toThrow(/timeoutMs is 0/);
    await expect(initiator.write(good, { priority: 'urgent' as never })).rejects.toThrow(
      /priority/,
    );
    await expect(initiator.write(good, { transport: 'rdma' })).rejects.toThrow(
      /transport is "rdma"; accepted: memory/,
    );
    await expect(initiator.write(good, { notify: { name: 'x' } as never })).rejects.toThrow(
      /notify\.message/,
    );
    expect(memory.every((byte) => byte === 0)).toBe(true);
    expect(initiator.stats().tasksActive).toBe(0);
  });

  it('names peer, address and bytes when the peer refuses an address', async () => {
    const { initiator, target, region, segment } = await pair();
    const error: EngineError = await initiator
      .write({ segment, local: Buffer.alloc(8), remoteAddress: region.address + 65_530n })
      .then(
        () => expect.unreachable(),
        (thrown: EngineError) => thrown,
      );
    expect(error.code).toBe('ERR_TE_ADDRESS_REJECTED');
    expect(error.message).toContain(target.segmentName);
    expect(error.message).toContain((region.address + 65_530n).toString(16));
    expect(error.details).toMatchObject({ bytesDone: 0, attempts: 1, destination: 'untouched' });
  });

  it('keeps permissions', async () => {
    const network = new MemoryNetwork();
    const target = await engine(network);
    const initiator = await engine(network);
    const readOnly = await target.registerMemory(Buffer.alloc(16, 1), {
      permission: 'global-read-only',
    });
    const hidden = await target.registerMemory(Buffer.alloc(16, 2), {
      permission: 'local-read-write',
    });
    const segment = await initiator.openSegment(target.segmentName);
    expect(segment.buffers.map(({ address }) => address)).toEqual([readOnly.address]);
    const local = Buffer.alloc(16);
    expect(await code(initiator.write({ segment, local, remoteAddress: readOnly.address }))).toBe(
      'ERR_TE_ADDRESS_REJECTED',
    );
    expect(await code(initiator.read({ segment, local, remoteAddress: hidden.address }))).toBe(
      'ERR_TE_ADDRESS_REJECTED',
    );
    await initiator.read({ segment, local, remoteAddress: readOnly.address });
    expect(local).toEqual(Buffer.alloc(16, 1));
  });

  it('copies inside its own segment', async () => {
    const network = new MemoryNetwork();
    const alone = await engine(network);
    const region = await alone.registerMemory(Buffer.alloc(12 * 1024 * 1024));
    const source = Buffer.alloc(region.length, 9);
    const segment = await alone.openSegment(alone.segmentName);
    expect(segment).toBe(alone.localSegment);
    const result = await alone.write({ segment, local: source, remoteAddress: region.address });
    expect(result.transport).toBe('local');
    expect(region.bytes.equals(source)).toBe(true);
  });
});

describe('registration', () => {
  it('is all or nothing when a transport refuses', async () => {
    const network = new MemoryNetwork();
    const memory = memoryTransport(network);
    const picky: TransportFactory = {
      name: 'picky',
      create: (host) => {
        const transport = memory.create(host);
        return Object.assign(Object.create(transport) as typeof transport, {
          attach: () => Promise.reject(new Error('no keys left')),
          start: () => transport.start(),
          describe: (draft: Parameters<typeof transport.describe>[0]) => transport.describe(draft),
          close: () => transport.close(),
          stats: () => ({}),
          detach: () => Promise.resolve(),
        });
      },
    };
    const made = await engine(network, { transports: [picky] });
    const bytes = Buffer.alloc(64);
    await expect(made.registerMemory(bytes)).rejects.toThrow(/no keys left/);
    expect(made.stats().regions).toBe(0);
    expect(made.localSegment.buffers).toEqual([]);
    await expect(made.registerMemory(bytes)).rejects.toThrow(/no keys left/);
  });

  it('refuses overlap, empty memory and foreign objects, in a batch too', async () => {
    const made = await engine(new MemoryNetwork());
    const memory = new ArrayBuffer(64);
    const region = await made.registerMemory(memory);
    expect(await code(made.registerMemory(new Uint8Array(memory, 8, 8)))).toBe(
      'ERR_TE_ADDRESS_OVERLAPPED',
    );
    expect(await code(made.registerMemory(Buffer.alloc(0)))).toBe('ERR_TE_INVALID_ARGUMENT');
    expect(await code(made.registerMemory([] as never))).toBe('ERR_TE_INVALID_ARGUMENT');
    expect(await code(made.registerMemoryBatch([Buffer.alloc(5), new Uint8Array(memory)]))).toBe(
      'ERR_TE_ADDRESS_OVERLAPPED',
    );
    expect(made.stats().regions).toBe(1);
    await region.unregister();
    expect(await code(region.unregister())).toBe('ERR_TE_ADDRESS_NOT_REGISTERED');
    await made.registerMemory(memory);
  });

  it('allocates memory of its own and reads and writes it', async () => {
    const made = await engine(new MemoryNetwork());
    const region = await made.allocateMemory(4096, { location: 'cpu:0' });
    expect(region).toMatchObject({ length: 4096, location: 'cpu:0', hasView: true });
    await region.write(10, Buffer.from('abc'));
    expect(region.bytes.toString('latin1', 9, 14)).toBe('\0abc\0');
    expect(region.view(9, 5).toString('latin1')).toBe('\0abc\0');
    expect(region.view(4096, 0)).toHaveLength(0);
    for (const [offset, length] of [
      [-1, 1],
      [0, 4097],
      [4096, 1],
      [0.5, 1],
      [0, -1],
    ] as const) {
      expect(() => region.view(offset, length)).toThrow(/ERR_TE_INVALID_ARGUMENT/);
    }
    const copy = Buffer.alloc(3);
    await region.read(10, copy);
    expect(copy.toString()).toBe('abc');
    expect(await code(region.read(4094, copy))).toBe('ERR_TE_INVALID_ARGUMENT');
    expect(await code(made.allocateMemory(0))).toBe('ERR_TE_INVALID_ARGUMENT');
    expect(await code(made.allocateMemory(1, { transport: 'shm' }))).toBe(
      'ERR_TE_INVALID_ARGUMENT',
    );
    await region.unregister();
    expect(await code(region.read(0, copy))).toBe('ERR_TE_ADDRESS_NOT_REGISTERED');
  });

  it('gives memory back that a transport allocated', async () => {
    const network = new MemoryNetwork();
    const memory = memoryTransport(network);
    const released: number[] = [];
    const allocating: TransportFactory = {
      name: 'allocating',
      create: (host) =>
        Object.assign(memory.create(host), {
          name: 'allocating',
          allocate: ({ length }: { length: number }) =>
            Promise.resolve({
              store: new BufferStore(Buffer.alloc(length)),
              release: () => Promise.resolve(void released.push(length)),
            }),
        }),
    };
    const made = await engine(network, { transports: [allocating] });
    const first = await made.allocateMemory(10);
    await made.allocateMemory(20, { transport: 'allocating' });
    await first.unregister();
    expect(released).toEqual([10]);
    await made.close();
    expect(released).toEqual([10, 20]);
  });

  it('takes shared memory and every kind of view', async () => {
    const made = await engine(new MemoryNetwork());
    const regions = await made.registerMemoryBatch([
      new SharedArrayBuffer(32),
      new Float64Array(4),
      new DataView(new ArrayBuffer(8)),
      Buffer.alloc(3),
    ]);
    expect(regions.map(({ length }) => length)).toEqual([32, 32, 8, 3]);
    expect(new Set(regions.map(({ address }) => address)).size).toBe(4);
  });
});

describe('batch', () => {
  it('reports each request and all together', async () => {
    const { initiator, region, segment } = await pair();
    const local = Buffer.alloc(100, 7);
    const batch = initiator.createBatch(4);
    const request = { opcode: 'write' as const, segment, local };
    batch.submit([
      { ...request, remoteAddress: region.address },
      { ...request, remoteAddress: region.address - 200n },
      { ...request, remoteAddress: region.address + 200n, opcode: 'read' },
    ]);
    expect(batch.status(0).state).toBe(TaskState.waiting);
    expect(() => batch.free()).toThrow(/ERR_TE_BATCH_BUSY/);
    const status = await batch.settled;
    expect(status).toMatchObject({
      state: TaskState.failed,
      bytes: 200,
      tasks: 3,
      completed: 2,
      failed: 1,
    });
    expect(status.error?.code).toBe('ERR_TE_ADDRESS_REJECTED');
    expect(batch.status(1)).toMatchObject({ state: TaskState.failed, bytes: 0 });
    expect(batch.status(2)).toEqual({ state: TaskState.completed, bytes: 100 });
    expect(() => batch.status(3)).toThrow(/index is 3/);
    expect(() =>
      batch.submit([
        { ...request, remoteAddress: 1n },
        { ...request, remoteAddress: 1n },
      ]),
    ).toThrow(/ERR_TE_TOO_MANY_REQUESTS/);
    batch.submit([{ ...request, remoteAddress: region.address }]);
    expect((await batch.settled).tasks).toBe(4);
    batch.free();
    expect(() => batch.free()).toThrow(/ERR_TE_CLOSED/);
  });

  it('submits nothing when one request is wrong', async () => {
    const { initiator, memory, region, segment } = await pair();
    const batch = initiator.createBatch(2);
    const request = { opcode: 'write' as const, segment, local: Buffer.alloc(4, 1) };
    expect(() =>
      batch.submit([
        { ...request, remoteAddress: region.address },
        { ...request, remoteAddress: -1n },
      ]),
    ).toThrow(/requests\[1\]\.remoteAddress/);
    expect(batch.size).toBe(0);
    expect((await batch.settled).state).toBe(TaskState.completed);
    expect(memory[0]).toBe(0);
  });

  it('goes to several peers at once', async () => {
    const { initiator, network, region, segment } = await pair();
    const other = await engine(network);
    const theirs = await other.registerMemory(Buffer.alloc(32));
    const second = await initiator.openSegment(other.segmentName);
    const batch = initiator.createBatch(3);
    const local = Buffer.alloc(32, 5);
    batch.submit([
      { opcode: 'write', segment: second, local, remoteAddress: theirs.address },
      { opcode: 'write', segment, local, remoteAddress: region.address + 65_520n },
      { opcode: 'write', segment: second, local, remoteAddress: theirs.address + 32n },
    ]);
    await batch.settled;
    expect([0, 1, 2].map((index) => batch.status(index).state)).toEqual([4, 6, 6]);
    expect(theirs.bytes.equals(local)).toBe(true);
  });

  it('sends its notification once, after everything completed, and not after a failure', async () => {
    const { initiator, target, region, segment } = await pair();
    const notify = { name: 'decode-1', message: 'done' };
    const batch = initiator.createBatch(3);
    const request = { opcode: 'write' as const, segment, local: Buffer.alloc(4, 1) };
    batch.submit(
      [
        { ...request, remoteAddress: region.address },
        { ...request, remoteAddress: region.address + 4n },
      ],
      { notify },
    );
    await batch.settled;
    expect(target.takeNotifications()).toEqual([
      { ...notify, from: initiator.segmentName, outcome: 'completed' },
    ]);
    batch.submit([{ ...request, remoteAddress: 1n }], { notify });
    await batch.settled;
    expect(target.takeNotifications()).toEqual([]);
    expect(() => initiator.createBatch(1).submit([], { notify })).toThrow(/at least one request/);
  });

  it('tells when the bytes arrived but the notification did not', async () => {
    const { initiator, region, segment } = await pair({
      target: { limits: { inboxNotifications: 1 } },
    });
    const notify = { name: 'n', message: 'm' };
    const request = { segment, local: Buffer.alloc(4, 1), remoteAddress: region.address };
    await initiator.write(request, { notify });
    const error = await initiator.write(request, { notify }).catch((thrown: EngineError) => thrown);
    expect(error).toMatchObject({ details: { transferCompleted: true, bytesDone: 4 } });
    const batch = initiator.createBatch(1);
    batch.submit([{ ...request, opcode: 'write' }], { notify });
    const status = await batch.settled;
    expect(status.state).toBe(TaskState.completed);
    expect(status.notifyError?.message).toContain('did not reach');
  });
});

describe('columns', () => {
  const columns = (region: Columns['localRegion'], address: bigint, count: number): Columns => ({
    opcode: 'write',
    localRegion: region,
    localOffset: Float64Array.from({ length: count }, (_, row) => row * 3),
    remoteAddress: BigUint64Array.from({ length: count }, (_, row) => address + BigInt(row * 5)),
    length: Float64Array.from({ length: count }, (_, row) => row % 4),
  });

  it('moves many ranges and reports each', async () => {
    const { initiator, memory, region, segment } = await pair();
    const local = await initiator.registerMemory(Buffer.alloc(64 * 1024, 3));
    const result = await initiator.submitColumns(segment, columns(local, region.address, 1000));
    expect(result).toMatchObject({ completed: 1000, failed: 0, bytes: 1500 });
    expect(result.states.every((state) => state === TaskState.completed)).toBe(true);
    expect([...memory.subarray(0, 20)]).toEqual([
      0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 3, 3, 0, 0, 0, 3, 3, 3, 0, 0,
    ]);
  });

  it('takes opcodes, regions and number addresses by row, and keeps failures apart', async () => {
    const { initiator, region, segment } = await pair();
    const first = await initiator.registerMemory(Buffer.alloc(16, 1));
    const second = await initiator.registerMemory(Buffer.alloc(16, 2));
    const result = await initiator.submitColumns(segment, {
      opcode: Uint8Array.of(1, 0, 1),
      localRegion: Uint32Array.of(first.id, second.id, second.id),
      localOffset: Float64Array.of(0, 8, 0),
      remoteAddress: Float64Array.of(Number(region.address), Number(region.address), 4096),
      length: Float64Array.of(8, 8, 8),
    });
    expect([...result.states]).toEqual([
      TaskState.completed,
      TaskState.completed,
      TaskState.failed,
    ]);
    expect(result.errors.get(2)?.code).toBe('ERR_TE_ADDRESS_REJECTED');
    expect(second.bytes.toString('hex')).toBe(`${'02'.repeat(8)}${'01'.repeat(8)}`);
  });

  it('refuses wrong columns by name and row', async () => {
    const { initiator, region, segment } = await pair();
    const local = await initiator.registerMemory(Buffer.alloc(64));
    const good = columns(local, region.address, 8);
    const bad: [Partial<Columns>, RegExp][] = [
      [{ length: new Float64Array(7) }, /columns\.localOffset/],
      [{ opcode: 'copy' as never }, /columns\.opcode/],
      [{ opcode: Uint8Array.of(0, 1, 2, 0, 0, 0, 0, 0) }, /columns\.opcode\[2\]/],
      [{ localRegion: new Uint32Array(8).fill(77) }, /region 77/],
      [{ localRegion: {} as never }, /columns\.localRegion/],
      [{ localOffset: new Float64Array(8).fill(63) }, /columns\.localOffset\[2\] is 63/],
      [{ length: new Float64Array(8).fill(-1) }, /columns\.length\[0\] is -1/],
      [{ remoteAddress: new Float64Array(8).fill(0.5) }, /columns\.remoteAddress\[0\]/],
      [
        { remoteAddress: new BigUint64Array(8).fill(2n ** 64n - 1n) },
        /columns\.remoteAddress\[2\]/,
      ],
    ];
    for (const [change, message] of bad) {
      await expect(initiator.submitColumns(segment, { ...good, ...change })).rejects.toThrow(
        message,
      );
    }
  });

  it('is rejected with the reason of an aborted signal', async () => {
    const { initiator, region, segment } = await pair();
    const local = await initiator.registerMemory(Buffer.alloc(64 * 1024));
    const reason = new Error('not needed any more');
    await expect(
      initiator.submitColumns(segment, columns(local, region.address, 10), {
        signal: AbortSignal.abort(reason),
      }),
    ).rejects.toBe(reason);
  });
});

describe('life', () => {
  it('serves notifications by name and handle, and ends iterators when it closes', async () => {
    const { initiator, target, segment } = await pair();
    const seen: string[] = [];
    const reading = (async () => {
      for await (const { name, message } of target.notifications()) seen.push(`${name}:${message}`);
    })();
    await initiator.notify(segment, { name: 'a', message: '1' });
    await initiator.notify(target.segmentName, { name: 'b', message: '2' });
    await target.close();
    await reading;
    expect(seen).toEqual(['a:1', 'b:2']);
    expect(await initiator.probe(segment)).toBe(false);
    expect(await code(initiator.notify(segment, { name: 'c', message: '3' }))).toBe(
      'ERR_TE_CONNECT_FAILED',
    );
  });

  it('ends transfers that are under way when a segment or the engine is closed', async () => {
    const { initiator, region, segment } = await pair();
    const request = { segment, local: Buffer.alloc(1024), remoteAddress: region.address };
    const running = code(initiator.write(request));
    await segment.close();
    expect(['no error', 'ERR_TE_CLOSED']).toContain(await running);
    expect(await code(initiator.write(request))).toBe('ERR_TE_CLOSED');
    await initiator.close();
    await initiator.close();
    expect(await code(() => initiator.createBatch(1))).toBe('ERR_TE_CLOSED');
    expect(await code(initiator.openSegment('127.0.0.1:1'))).toBe('ERR_TE_CLOSED');
  });

  it('publishes to a store and withdraws when it closes', async () => {
    const network = new MemoryNetwork();
    const directory = new MemoryDirectory();
    const backing = directory.documents;
    const options = () => ({
      metadata: new MemoryStore(directory),
      host: '127.0.0.1',
      clusterId: 'c1',
    });
    const target = await engine(network, { ...options(), name: 'decode-0' });
    const region = await target.registerMemory(Buffer.alloc(8));
    expect([...backing.keys()].sort()).toEqual([
      'mooncake/c1/ram/decode-0',
      'mooncake/c1/rpc_meta/decode-0',
    ]);
    const initiator = await engine(network, { ...options(), name: 'prefill-0' });
    const segment = await initiator.openSegment('/decode-0');
    await initiator.write({
      segment,
      local: Buffer.from('12345678'),
      remoteAddress: region.address,
    });
    expect(region.bytes.toString()).toBe('12345678');
    await initiator.notify('decode-0', { name: 'n', message: 'm' });
    expect(target.takeNotifications()).toHaveLength(1);
    expect(await code(initiator.openSegment('nobody'))).toBe('ERR_TE_SEGMENT_NOT_FOUND');
    await target.close();
    await initiator.close();
    expect([...backing.keys()]).toEqual([]);
  });

  it('leaves nothing behind when it cannot start', async () => {
    const network = new MemoryNetwork();
    const first = await engine(network);
    const taken = first.address.rpcPort;
    expect(await code(engine(network, { rpcPort: taken }))).toBe('ERR_TE_PORT_UNAVAILABLE');
    expect(await code(engine(network, { name: `127.0.0.1:${taken}` }))).toBe(
      'ERR_TE_PORT_UNAVAILABLE',
    );
    expect(await code(engine(network, { rpcPort: 70_000 }))).toBe('ERR_TE_INVALID_ARGUMENT');
    expect(await code(engine(network, { metadata: 'etcd://x' as never }))).toBe(
      'ERR_TE_INVALID_ARGUMENT',
    );
    expect(await code(engine(network, { transports: [{}] as never }))).toBe(
      'ERR_TE_INVALID_ARGUMENT',
    );
  });
});

describe('runtime', () => {
  it('tells peers of failures when asked, with the outcome', async () => {
    const { initiator, target, region, segment } = await pair();
    const notify = { name: 'n', message: 'm', on: 'settled' as const };
    const request = { segment, local: Buffer.alloc(4, 1), remoteAddress: 1n };
    expect(await code(initiator.write(request, { notify }))).toBe('ERR_TE_ADDRESS_REJECTED');
    await initiator.write({ ...request, remoteAddress: region.address }, { notify });
    const batch = initiator.createBatch(1);
    batch.submit([{ ...request, opcode: 'write' }], { notify });
    await batch.settled;
    const local = await initiator.registerMemory(Buffer.alloc(8));
    await initiator.submitColumns(
      segment,
      {
        opcode: 'write',
        localRegion: local,
        localOffset: Float64Array.of(0),
        remoteAddress: Float64Array.of(1),
        length: Float64Array.of(8),
      },
      { notify },
    );
    expect(target.takeNotifications().map(({ outcome }) => outcome)).toEqual([
      'failed',
      'completed',
      'failed',
      'failed',
    ]);
  });

  it('does not tell a peer of failures that could not read the outcome', async () => {
    const network = new MemoryNetwork();
    const transports = [memoryTransport(network, { name: 'tcp' })];
    const target = await engine(network, { transports, strict: true });
    const initiator = await engine(network, { transports });
    const segment = await initiator.openSegment(target.segmentName);
    const notify = { name: 'n', message: 'm', on: 'settled' as const };
    const request = { segment, local: Buffer.alloc(4, 1), remoteAddress: 1n };
    expect(await code(initiator.write(request, { notify }))).toBe('ERR_TE_ADDRESS_REJECTED');
    expect(target.takeNotifications()).toEqual([]);
    await initiator.notify(segment, { name: 'a', message: 'b' });
    expect(target.takeNotifications()).toEqual([{ name: 'a', message: 'b' }]);
  });

  it('refuses destinations that overlap, unless they may', async () => {
    const { initiator, memory, region, segment } = await pair();
    const local = Buffer.from('abcdefgh');
    const write = { opcode: 'write' as const, segment, local, length: 4 };
    const requests = [
      { ...write, remoteAddress: region.address + 3n, localOffset: 4 },
      { ...write, remoteAddress: region.address },
    ];
    expect(() => initiator.createBatch(2).submit(requests)).toThrow(
      /requests\[1\] and requests\[0\] write to the same bytes/,
    );
    expect(memory[0]).toBe(0);
    const batch = initiator.createBatch(2);
    batch.submit(requests, { overlap: 'allow' });
    expect((await batch.settled).failed).toBe(0);
    const read = { opcode: 'read' as const, segment, remoteAddress: region.address, length: 4 };
    const reads = [
      { ...read, local: local.subarray(0, 4) },
      { ...read, local: local.subarray(3) },
    ];
    expect(() => initiator.createBatch(2).submit(reads)).toThrow(/ERR_TE_ADDRESS_OVERLAPPED/);
    const same = await initiator.registerMemory(Buffer.alloc(16));
    const columns: Columns = {
      opcode: Uint8Array.of(1, 0, 1),
      localRegion: same,
      localOffset: Float64Array.of(0, 0, 8),
      remoteAddress: BigUint64Array.of(region.address, region.address, region.address + 7n),
      length: Float64Array.of(8, 8, 8),
    };
    expect(await code(initiator.submitColumns(segment, columns))).toBe('ERR_TE_ADDRESS_OVERLAPPED');
    const result = await initiator.submitColumns(segment, columns, { overlap: 'allow' });
    expect(result.failed).toBe(0);
  });

  it('says what is known about the destination of a failed range', async () => {
    const { initiator, region, segment } = await pair();
    const batch = initiator.createBatch(1);
    batch.submit([
      { opcode: 'write', segment, local: Buffer.alloc(8), remoteAddress: region.address - 8n },
    ]);
    await batch.settled;
    const { error, destination } = batch.status(0);
    expect(destination).toEqual({ state: 'untouched', appliedRanges: [], unknownRanges: [] });
    expect(flightOf(error).map(({ kind }) => kind)).toContain('slice-failed');
    expect(flightOf(new Error('other'))).toEqual([]);
  });

  it('publishes what happens on diagnostics channels', async () => {
    const seen: unknown[] = [];
    const listen = (message: unknown) => void seen.push(message);
    subscribe('transfer-engine:settled', listen);
    try {
      const { initiator, target, region, segment } = await pair();
      await initiator.write({ segment, local: Buffer.alloc(8), remoteAddress: region.address });
      expect(seen).toEqual([
        expect.objectContaining({
          engine: initiator.segmentName,
          peer: target.segmentName,
          ranges: 1,
          failed: 0,
          bytes: 8,
        }),
      ]);
    } finally {
      unsubscribe('transfer-engine:settled', listen);
    }
  });

  it('drains: nothing new starts, what runs may end', async () => {
    const { initiator, region, segment } = await pair();
    const request = { segment, local: Buffer.alloc(8, 1), remoteAddress: region.address };
    const running = initiator.write(request);
    const drained = initiator.drain();
    expect(await code(initiator.write(request))).toBe('ERR_TE_CLOSED');
    await running;
    await drained;
    expect(initiator.stats().tasksActive).toBe(0);
    expect(await initiator.probe(segment)).toBe(true);
  });

  it('lets unregistering wait for transfers, or cut them', async () => {
    const { initiator, region, segment } = await pair();
    const local = await initiator.registerMemory(Buffer.alloc(1024, 1));
    const request = { segment, local, remoteAddress: region.address };
    const first = initiator.write(request);
    expect(await code(local.unregister())).toBe('ERR_TE_BATCH_BUSY');
    expect(await code(local.unregister({ busy: 'later' as never }))).toBe(
      'ERR_TE_INVALID_ARGUMENT',
    );
    await local.unregister({ busy: 'wait' });
    expect((await first).bytes).toBe(1024);
    const again = await initiator.registerMemory(local.bytes);
    expect(again.address).not.toBe(local.address);
    const second = code(initiator.write({ ...request, local: again }));
    await again.unregister({ busy: 'fence' });
    expect(['no error', 'ERR_TE_CANCELED']).toContain(await second);
  });

  it('makes producers wait while much is pending', async () => {
    const { initiator, region, segment } = await pair({
      initiator: { limits: { pendingBytesPerPeer: 1000 } },
    });
    await segment.ready();
    const running = initiator.write({
      segment,
      local: Buffer.alloc(2000),
      remoteAddress: region.address,
    });
    const aborted = segment.ready({ signal: AbortSignal.abort(new Error('enough')) });
    await expect(aborted).rejects.toThrow('enough');
    let ready = false;
    const waiting = segment.ready().then(() => (ready = true));
    await Promise.resolve();
    expect(ready).toBe(false);
    await running;
    await waiting;
  });

  it('refuses checksums towards peers that do not understand them', async () => {
    const { initiator, region, segment } = await pair();
    const request = { segment, local: Buffer.alloc(8, 1), remoteAddress: region.address };
    expect(await code(initiator.write(request, { integrity: 'crc32' }))).toBe(
      'ERR_TE_NOT_SUPPORTED_TRANSPORT',
    );
    const own = await initiator.registerMemory(Buffer.alloc(8));
    const inside = { ...request, segment: initiator.localSegment, remoteAddress: own.address };
    await initiator.write(inside, { integrity: 'crc32' });
    expect(own.bytes[7]).toBe(1);
  });
});
