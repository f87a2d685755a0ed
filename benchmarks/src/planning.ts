import { parseArgs } from 'node:util';
import { createEngine, type BatchRequest, type Engine, type Segment } from '@transfer-engine/core';
import { MemoryNetwork, memoryTransport } from '@transfer-engine/core/testing';

/*
 * A million strided ranges through the engine, over the in-memory transport: what planning,
 * bookkeeping and completion cost, how much memory they take, and how long they block the event
 * loop at most. Prints one line of JSON for each way of asking.
 *
 *   node --expose-gc benchmarks/dist/planning.js [--ranges=1000000] [--bytes=64] [--repeat=3]
 */

const { values } = parseArgs({
  options: {
    ranges: { type: 'string', default: '1000000' },
    bytes: { type: 'string', default: '64' },
    repeat: { type: 'string', default: '3' },
  },
});
const ranges = Number(values.ranges);
const bytes = Number(values.bytes);
const stride = 2 * bytes;
/** Requests of one batch, when they come as objects. */
const BATCH_REQUESTS = 1_024;

/**
 * Watches how long the event loop is away, by asking for a turn again and again.
 *
 * On a machine that others use too, a turn is also long because the process had to wait for a core;
 * so the processor time of the turn is looked at beside the wall clock.
 */
class LoopWatch {
  /** By the wall clock. */
  longestMs = 0;
  /** The same, at most the processor time that the process used meanwhile. */
  longestBusyMs = 0;
  turns = 0;
  #lastMs = 0;
  #lastCpuMs = 0;
  #running = false;

  start(): void {
    this.longestMs = 0;
    this.longestBusyMs = 0;
    this.turns = 0;
    this.#lastMs = performance.now();
    this.#lastCpuMs = cpuMs();
    this.#running = true;
    setImmediate(this.#tick);
  }

  stop(): void {
    this.#running = false;
  }

  readonly #tick = (): void => {
    const nowMs = performance.now();
    const nowCpuMs = cpuMs();
    const tookMs = nowMs - this.#lastMs;
    this.longestMs = Math.max(this.longestMs, tookMs);
    this.longestBusyMs = Math.max(this.longestBusyMs, Math.min(tookMs, nowCpuMs - this.#lastCpuMs));
    this.#lastMs = nowMs;
    this.#lastCpuMs = nowCpuMs;
    this.turns += 1;
    if (this.#running) setImmediate(this.#tick);
  };
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

interface Place {
  readonly engine: Engine;
  readonly segment: Segment;
  readonly local: Awaited<ReturnType<Engine['registerMemory']>>;
  readonly remote: Awaited<ReturnType<Engine['registerMemory']>>;
}

async function columns({ engine, segment, local, remote }: Place): Promise<number> {
  const base = Number(remote.address);
  const localOffset = new Float64Array(ranges);
  const remoteAddress = new Float64Array(ranges);
  for (let row = 0; row < ranges; row += 1) {
    localOffset[row] = row * bytes;
    remoteAddress[row] = base + row * stride;
    // The user's own loop is not what is measured.
    if (row % 50_000 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const length = new Float64Array(ranges).fill(bytes);
  const all = { opcode: 'write', localRegion: local, localOffset, remoteAddress, length } as const;
  const { completed } = await engine.submitColumns(segment, all);
  return completed;
}

async function objects({ engine, segment, local, remote }: Place): Promise<number> {
  let completed = 0;
  for (let from = 0; from < ranges; from += BATCH_REQUESTS) {
    const count = Math.min(BATCH_REQUESTS, ranges - from);
    const requests: BatchRequest[] = [];
    for (let row = from; row < from + count; row += 1) {
      requests.push({
        opcode: 'write',
        segment,
        local,
        localOffset: row * bytes,
        remoteAddress: remote.address + BigInt(row * stride),
        length: bytes,
      });
    }
    const batch = engine.createBatch(count);
    batch.submit(requests);
    const status = await batch.settled;
    completed += status.completed;
    batch.free();
    await segment.ready();
  }
  return completed;
}

async function measure(name: string, place: Place, work: (place: Place) => Promise<number>) {
  globalThis.gc?.();
  const watch = new LoopWatch();
  const before = process.memoryUsage();
  const startMs = performance.now();
  watch.start();
  let peak = before.heapUsed + before.external;
  const sampler = setInterval(() => {
    const { heapUsed, external } = process.memoryUsage();
    peak = Math.max(peak, heapUsed + external);
  }, 20);
  const completed = await work(place);
  watch.stop();
  clearInterval(sampler);
  const seconds = (performance.now() - startMs) / 1000;
  globalThis.gc?.();
  const after = process.memoryUsage();
  const mib = (count: number): number => Math.round((count / 2 ** 20) * 10) / 10;
  const report = {
    name,
    ranges,
    bytes,
    completed,
    seconds: Math.round(seconds * 1000) / 1000,
    rangesPerSecond: Math.round(ranges / seconds),
    longestBlockMs: Math.round(watch.longestBusyMs * 100) / 100,
    longestTurnMs: Math.round(watch.longestMs * 100) / 100,
    turns: watch.turns,
    peakGrowthMiB: mib(peak - before.heapUsed - before.external),
    keptGrowthMiB: mib(after.heapUsed + after.external - before.heapUsed - before.external),
    node: process.version,
  };
  console.log(JSON.stringify(report));
}

const network = new MemoryNetwork();
const make = () => createEngine({ transports: [memoryTransport(network)] });
const [engine, target] = await Promise.all([make(), make()]);
const local = await engine.registerMemory(Buffer.alloc(ranges * bytes, 1));
const remote = await target.registerMemory(Buffer.alloc(ranges * stride));
const segment = await engine.openSegment(target.segmentName);
const place = { engine, segment, local, remote };
for (let round = 0; round < Number(values.repeat); round += 1) {
  await measure('columns', place, columns);
  await measure('objects', place, objects);
}
await Promise.all([engine.close(), target.close()]);
