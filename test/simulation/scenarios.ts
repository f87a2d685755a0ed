import type { BatchRequest, Engine, EngineLimits, Segment } from '../../packages/core/src/index.ts';
import { SimWorld, type SimOptions } from '../../packages/core/src/testing/index.ts';

/** Two engines, one of which has memory that the other one uses. */
interface Pair {
  readonly world: SimWorld;
  readonly engine: Engine;
  readonly segment: Segment;
  readonly address: bigint;
}

const MEMORY_BYTES = 1024 * 1024;

async function pair(
  seed: number,
  network: SimOptions,
  limits: Partial<EngineLimits> = {},
): Promise<Pair> {
  const world = new SimWorld(seed, { networks: [network] });
  const engine = await world.until(world.engine({ name: 'a', limits }));
  const target = await world.until(world.engine({ name: 'b' }));
  const region = await world.until(target.registerMemory(Buffer.alloc(MEMORY_BYTES)));
  const segment = await world.until(engine.openSegment(target.segmentName));
  return { world, engine, segment, address: region.address };
}

function writes({ segment, address }: Pair, count: number, length: number): BatchRequest[] {
  const local = Buffer.alloc(count * length, 1);
  return Array.from({ length: count }, (_, index) => ({
    opcode: 'write' as const,
    segment,
    local,
    localOffset: index * length,
    remoteAddress: address + BigInt(index * length),
    length,
  }));
}

function expectThat(condition: boolean, message: string): void {
  if (!condition) throw new Error(message);
}

/** While work of high priority never ends, work of low priority has its turn all the same. */
export async function flood(seed: number): Promise<void> {
  const network = { bytesPerMs: 1_000, lanesPerPeer: 1, queueSlices: 4 };
  const one = await pair(seed, network);
  const { world, engine } = one;
  const endMs = world.clock.nowMs() + 2_000;
  const submit = (): void => {
    if (world.clock.nowMs() > endMs) return;
    const batch = engine.createBatch(4);
    batch.submit(writes(one, 4, 4096), { priority: 'high' });
    void batch.settled.then(submit);
  };
  for (let index = 0; index < 16; index += 1) submit();
  await world.run(50);
  const startMs = world.clock.nowMs();
  const low = engine.createBatch(4);
  low.submit(writes(one, 4, 4096), { priority: 'low' });
  await world.until(low.settled, 60_000);
  const tookMs = world.clock.nowMs() - startMs;
  expectThat(tookMs < 500, `work of low priority starved for ${tookMs} ms`);
}

/** A peer that loses everything costs a bounded number of retries. */
export async function sickPeer(seed: number): Promise<void> {
  const one = await pair(seed, { faults: { loss: 1 } }, { attempts: 900 });
  const { world, engine } = one;
  const batch = engine.createBatch(16);
  batch.submit(writes(one, 16, 512), { timeoutMs: 100_000 });
  const { completed } = await world.until(batch.settled, 110_000);
  const { retries } = engine.stats();
  expectThat(completed === 0, `${completed} requests completed over a network that loses all`);
  expectThat(retries <= 600, `a sick peer cost ${retries} retries`);
}

/** Where nothing moves, the stall bound ends the wait long before the deadline. */
export async function heldPeer(seed: number): Promise<void> {
  const one = await pair(seed, { statusTimeoutMs: 60_000, connectTimeoutMs: 60_000 });
  const { world, engine } = one;
  const first = engine.createBatch(1);
  first.submit(writes(one, 1, 512));
  await world.until(first.settled);
  world.partition('a', 'b');
  const startMs = world.clock.nowMs();
  const batch = engine.createBatch(4);
  batch.submit(writes(one, 4, 4096), { timeoutMs: 50_000, stallTimeoutMs: 200 });
  const { error } = await world.until(batch.settled, 55_000);
  const tookMs = world.clock.nowMs() - startMs;
  expectThat(tookMs < 500, `nothing moved for ${tookMs} ms, and the stall bound is 200 ms`);
  expectThat(error?.code === 'ERR_TE_STALLED', `a stalled transfer ended with ${String(error)}`);
}

/** A peer that answers does not make the user wait for the end of a cancelled batch. */
export async function quickCancel(seed: number): Promise<void> {
  const one = await pair(seed, { latencyMs: [0.05, 0.2], bytesPerMs: 100_000 });
  const { world, engine } = one;
  const batch = engine.createBatch(64);
  batch.submit(writes(one, 64, 16_384));
  await world.run(0.5);
  const startMs = world.clock.nowMs();
  const { failed, completed } = await world.until(batch.cancel(), 10_000);
  const tookMs = world.clock.nowMs() - startMs;
  expectThat(tookMs < 10, `a cancelled batch took ${tookMs} ms to end`);
  expectThat(failed + completed === 64 && failed > 0, `${failed} failed, ${completed} completed`);
}

export const SCENARIOS = { flood, sickPeer, heldPeer, quickCancel } as const;
