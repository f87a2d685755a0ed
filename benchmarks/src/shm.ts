import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { createEngine, type Columns, type Segment } from '@transfer-engine/core';
import { shm } from '@transfer-engine/transport-shm';

/*
 * Shared memory between two processes, beside the least that the same bytes cost: a copy between
 * two Buffers, and positional I/O on a file in /dev/shm. All of it in one run, in rounds that
 * alternate, because figures of different runs cannot be compared. Ratios are of medians.
 */

const KIB = 1024;
const MIB = 1024 * KIB;
const SIZES = [4 * KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB];
const LARGEST = 256 * MIB;
const ROUNDS = 5;
/** Bytes that one measurement moves, and how often it moves a block at most. */
const BYTES = 512 * MIB;
const REPEATS_MAX = 20_000;
const COLUMN_ROWS = 100_000;

type Subject = 'memcpy' | 'pwrite' | 'pread' | 'write' | 'read' | 'safe write' | 'safe read';
const SUBJECTS: readonly Subject[] = [
  'memcpy',
  'pwrite',
  'pread',
  'write',
  'read',
  'safe write',
  'safe read',
];

async function target(): Promise<void> {
  const engine = await createEngine({ name: '127.0.0.1', transports: [shm()] });
  const region = await engine.allocateMemory(LARGEST, { transport: 'shm' });
  region.bytes.fill(1);
  process.send?.({ segment: engine.segmentName, address: region.address.toString() });
  process.on('disconnect', () => void engine.close().then(() => process.exit(0)));
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

async function initiator(): Promise<void> {
  const child: ChildProcess = fork(fileURLToPath(import.meta.url), ['target']);
  const [ready] = (await once(child, 'message')) as [{ segment: string; address: string }];
  const remote = BigInt(ready.address);
  const engines = await Promise.all(
    [shm(), shm({ safe: true })].map((transport) =>
      createEngine({ name: '127.0.0.1', transports: [transport] }),
    ),
  );
  const [mapped, safe] = await Promise.all(
    engines.map(async (engine) => ({ engine, segment: await engine.openSegment(ready.segment) })),
  );
  if (mapped === undefined || safe === undefined) throw new Error('two engines');
  const local = Buffer.alloc(LARGEST, 2);
  const copy = Buffer.alloc(LARGEST, 3);
  const path = `/dev/shm/te-bench-${process.pid}`;
  const fd = openSync(path, 'wx+', 0o600);
  writeSync(fd, local);

  const step: Record<Subject, (length: number) => unknown> = {
    memcpy: (length) => copy.set(local.subarray(0, length)),
    pwrite: (length) => writeSync(fd, local, 0, length, 0),
    pread: (length) => readSync(fd, local, 0, length, 0),
    write: (length) => mapped.engine.write({ ...mapped, local, remoteAddress: remote, length }),
    read: (length) => mapped.engine.read({ ...mapped, local, remoteAddress: remote, length }),
    'safe write': (length) => safe.engine.write({ ...safe, local, remoteAddress: remote, length }),
    'safe read': (length) => safe.engine.read({ ...safe, local, remoteAddress: remote, length }),
  };
  const rows: string[][] = [];
  for (const size of SIZES) rows.push(...(await measureSize(size, step)));
  const columns = await measureColumns(mapped.engine, mapped.segment, remote);

  closeSync(fd);
  rmSync(path);
  await Promise.all(engines.map((engine) => engine.close()));
  child.disconnect();
  await once(child, 'exit');
  process.stdout.write(
    `${cpus().length} x ${cpus()[0]?.model.trim() ?? 'unknown'}, Linux ${release()}, Node ${process.versions.node}\n\n` +
      '| block | what | GB/s | us | of memcpy | of pwrite/pread | longest loop delay, ms |\n' +
      '|---|---|---|---|---|---|---|\n' +
      `${rows.map((row) => `| ${row.join(' | ')} |`).join('\n')}\n\n` +
      `columns of 4 KiB: ${(columns / 1e6).toFixed(2)} M op/s\n`,
  );
}

async function measureSize(
  size: number,
  step: Record<Subject, (length: number) => unknown>,
): Promise<string[][]> {
  const seconds = new Map<Subject, number[]>(SUBJECTS.map((subject) => [subject, []]));
  const delays = new Map<Subject, number>();
  const repeats = Math.max(2, Math.min(REPEATS_MAX, Math.floor(BYTES / size)));
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const subject of SUBJECTS) {
      const move = step[subject];
      await move(size);
      await new Promise((resolve) => setImmediate(resolve));
      const delay = monitorEventLoopDelay({ resolution: 1 });
      delay.enable();
      const start = performance.now();
      for (let repeat = 0; repeat < repeats; repeat += 1) {
        const moving = move(size);
        if (moving instanceof Promise) await moving;
      }
      seconds.get(subject)?.push((performance.now() - start) / 1000 / repeats);
      await new Promise((resolve) => setImmediate(resolve));
      delay.disable();
      delays.set(subject, Math.max(delays.get(subject) ?? 0, delay.max / 1e6));
    }
  }
  const of = (subject: Subject) => median(seconds.get(subject) ?? []);
  return SUBJECTS.map((subject) => {
    const own = of(subject);
    const beside = subject.endsWith('write') ? 'pwrite' : 'pread';
    return [
      size >= MIB ? `${size / MIB} MiB` : `${size / KIB} KiB`,
      subject,
      (size / own / 1e9).toFixed(2),
      (own * 1e6).toFixed(1),
      (of('memcpy') / own).toFixed(2),
      subject === 'memcpy' ? '' : (of(beside) / own).toFixed(2),
      subject.startsWith('mem') || subject.startsWith('p')
        ? 'blocks'
        : (delays.get(subject) ?? 0).toFixed(1),
    ];
  });
}

/** Many small blocks in one submission: operations a second, the median of the rounds. */
async function measureColumns(
  engine: Awaited<ReturnType<typeof createEngine>>,
  segment: Segment,
  remote: bigint,
): Promise<number> {
  const blocks = LARGEST / (4 * KIB);
  const region = await engine.registerMemory(Buffer.alloc(LARGEST));
  const at = (row: number) => (row % blocks) * 4 * KIB;
  const columns: Columns = {
    opcode: 'write',
    localRegion: region,
    localOffset: Float64Array.from({ length: COLUMN_ROWS }, (_, row) => at(row)),
    remoteAddress: Float64Array.from({ length: COLUMN_ROWS }, (_, row) => Number(remote) + at(row)),
    length: new Float64Array(COLUMN_ROWS).fill(4 * KIB),
  };
  const rates: number[] = [];
  for (let round = 0; round <= ROUNDS; round += 1) {
    const start = performance.now();
    const result = await engine.submitColumns(segment, columns, { overlap: 'allow' });
    if (result.failed > 0) throw result.errors.values().next().value ?? new Error('rows failed');
    if (round > 0) rates.push(COLUMN_ROWS / ((performance.now() - start) / 1000));
  }
  await region.unregister();
  return median(rates);
}

await (process.argv[2] === 'target' ? target() : initiator());
