import { describe, expect, it } from 'vitest';
import type { Engine } from '../engine/engine-api.ts';
import { SimWorld, type SimWorldOptions } from './sim-world.ts';

async function pair(world: SimWorld, metadata: 'p2p' | 'store' = 'p2p'): Promise<[Engine, Engine]> {
  const first = await world.until(world.engine({ name: 'a', metadata }));
  const second = await world.until(world.engine({ name: 'b', metadata }));
  return [first, second];
}

describe('a simulated world', () => {
  it.each(['p2p', 'store'] as const)('runs real engines (%s)', async (metadata) => {
    const world = new SimWorld(1);
    const [a, b] = await pair(world, metadata);
    const memory = Buffer.alloc(8192, 7);
    const region = await world.until(b.registerMemory(memory));
    const segment = await world.until(a.openSegment(world.segmentName('b')));
    const source = Buffer.from('over there');
    const request = { segment, local: source, remoteAddress: region.address + 100n };
    const notify = { name: 'done', message: '1' };
    const result = await world.until(a.write(request, { notify }));
    expect(result).toMatchObject({ bytes: 10, transport: 'sim0', durability: 'applied' });
    expect(memory.toString('latin1', 100, 110)).toBe('over there');
    expect(b.takeNotifications()).toEqual([
      { ...notify, from: world.segmentName('a'), outcome: 'completed' },
    ]);
    expect(world.clock.nowMs()).toBeGreaterThan(0);
    await world.until(Promise.all([a.close(), b.close()]));
    expect([world.timersOf('a'), world.timersOf('b'), world.ledger.size]).toEqual([0, 0, 0]);
  });

  it('lets an engine die, and start again as another one', async () => {
    const world = new SimWorld(2, { control: { latencyMs: [1, 1] } });
    const [a, b] = await pair(world);
    const before = await b.registerMemory(Buffer.alloc(4096));
    const segment = await world.until(a.openSegment('b:12001'));
    const local = Buffer.alloc(4096, 1);
    const lost = a.write({ segment, local, remoteAddress: before.address }, { timeoutMs: 2_000 });
    world.kill('b');
    await expect(world.until(lost)).rejects.toThrow(/ERR_TE/);
    await expect(world.until(a.probe(segment))).resolves.toBe(false);
    const again = await world.until(world.engine({ name: 'b' }));
    const after = await world.until(again.registerMemory(Buffer.alloc(4096)));
    expect(after.address).not.toBe(before.address);
    await world.until(segment.refresh());
    await world.until(a.write({ segment, local, remoteAddress: after.address }));
    expect(after.bytes.equals(local)).toBe(true);
  });

  it('holds, loses and delays what passes between two engines', async () => {
    const world = new SimWorld(3);
    const [a, b] = await pair(world);
    const region = await b.registerMemory(Buffer.alloc(4096));
    const segment = await world.until(a.openSegment('b:12001'));
    const write = () =>
      a.write({ segment, local: Buffer.alloc(64, 3), remoteAddress: region.address });
    world.partition('a', 'b');
    const held = write();
    await world.run(300);
    expect(a.stats().tasksActive).toBe(1);
    expect(region.bytes[0]).toBe(0);
    world.heal('a', 'b');
    await world.until(held);
    world.slowDown('b', 1_000);
    const slow = write();
    await world.run(10);
    expect(a.stats().tasksActive).toBe(1);
    world.reset('a', 'b');
    await world.until(slow);
    expect(a.stats().retries).toBe(1);
  });

  it('has a store that goes down and loses answers', async () => {
    const world = new SimWorld(4, { store: { answerLoss: 1 } });
    await expect(world.until(world.engine({ name: 'a', metadata: 'store' }))).rejects.toThrow(
      /lost the answer/,
    );
    world.closed('a');
    world.store.setDown(true);
    await expect(world.until(world.engine({ name: 'a', metadata: 'store' }))).rejects.toThrow(
      /refused/,
    );
  });

  const variants: [string, SimWorldOptions][] = [
    ['lanes', {}],
    [
      'queues in bulk',
      { networks: [{ bulk: 'tags', tagBytes: 1024 }], tickMs: 0.5, checked: false },
    ],
  ];
  it.each(variants)('does the same again for a seed (%s)', async (_, options) => {
    const trace = async (seed: number) => {
      const world = new SimWorld(seed, options);
      const [a, b] = await pair(world, 'store');
      const region = await world.until(b.registerMemory(Buffer.alloc(64 * 1024)));
      const segment = await world.until(a.openSegment('b'));
      const batch = a.createBatch(64);
      batch.submit(
        Array.from({ length: 64 }, (_, index) => ({
          opcode: 'write' as const,
          segment,
          local: Buffer.alloc(1024),
          remoteAddress: region.address + BigInt(index) * 1024n,
        })),
      );
      const { completed } = await world.until(batch.settled);
      expect(completed).toBe(64);
      return `${world.traceHash} ${world.clock.nowMs()}`;
    };
    expect(await trace(5)).toBe(await trace(5));
    expect(await trace(5)).not.toBe(await trace(6));
  });

  it('moves tags instead of bytes where it is asked to', async () => {
    const world = new SimWorld(7, { networks: [{ bulk: 'tags', tagBytes: 4096 }] });
    const [a, b] = await pair(world);
    const mine = await a.registerMemory(Buffer.alloc(8 * 4096));
    const theirs = await b.registerMemory(Buffer.alloc(8 * 4096));
    world.tagsOf(mine).set([10, 11, 12]);
    const segment = await world.until(a.openSegment('b:12001'));
    const remoteAddress = theirs.address + 4096n * 2n;
    await world.until(a.write({ segment, local: mine, length: 3 * 4096, remoteAddress }));
    expect([...world.tagsOf(theirs)]).toEqual([0, 0, 10, 11, 12, 0, 0, 0]);
    await expect(world.until(a.write({ segment, local: mine, remoteAddress }))).rejects.toThrow(
      /ERR_TE_ADDRESS_REJECTED/,
    );
  });
});
