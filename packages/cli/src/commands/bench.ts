import { hostname } from 'node:os';
import { EngineError, type Engine, type Segment, type SegmentBuffer } from '@transfer-engine/core';
import { measureCeiling } from '../bench/ceiling.ts';
import { EngineLoad, type LoadResult } from '../bench/engine-load.ts';
import { footprint, type Workload } from '../bench/workload.ts';
import { numberOf, TeProcess, textOf } from '../child-process.ts';
import { defineCommand, type CommandContext } from '../command.ts';
import { ENGINE_OPTIONS, P2P, startEngine } from '../engine-setup.ts';
import { ExitCode, setUp, usageFailure } from '../failures.ts';
import { LatencyHistogram } from '../histogram.ts';
import { bytes, choice, decimal, flag, integer, text, type OptionValues } from '../options.ts';
import { textTable } from '../text-table.ts';
import { formatBytes, formatMicroseconds, rounded } from '../units.ts';
import { MEMORY_BYTES_MAX } from '../memory-limit.ts';

const OPTIONS = {
  ...ENGINE_OPTIONS,
  loopback: flag('start a target process on this machine, and measure against it'),
  target: text('SEGMENT', { help: 'measure against this segment (its largest buffer is used)' }),
  op: choice(['write', 'read', 'mix'], { help: 'mix is half and half', fallback: 'write' }),
  block: bytes({ min: 1, max: MEMORY_BYTES_MAX, fallback: 65_536, help: 'bytes of a request' }),
  batch: integer({ min: 1, max: 65_536, fallback: 16, help: 'requests of a batch' }),
  depth: integer({ min: 1, max: 4096, fallback: 4, help: 'batches in flight' }),
  lanes: integer({ min: 1, max: 16, help: 'connections to the target' }),
  duration: decimal('SECONDS', {
    min: 0.05,
    max: 86_400,
    fallback: 3,
    help: 'time of measuring the engine',
  }),
  timeout: integer({
    min: 1,
    max: 86_400_000,
    fallback: 30_000,
    help: 'bound of each batch, in milliseconds',
  }),
  noCeiling: flag('do not measure the bare node:net program'),
} as const;
type Values = OptionValues<typeof OPTIONS>;

/** Each request in flight is an object that is made once. */
const REQUESTS_MAX = 1_000_000;
const ROUNDS = 2;
const WARM_UP_MS = 200;
const CHILD_MS = 30_000;

export const bench = defineCommand({
  name: 'bench',
  summary: 'Measures throughput and latency, and a bare node:net program in the same run',
  details: `Rounds of the bare program and of the engine alternate. Latencies are those of whole
batches, gbps is 1e9 bytes of payload a second.`,
  options: OPTIONS,
  jsonWhenPiped: true,
  check,
  run,
});

function check(values: Values): void {
  const { loopback, target, metadata } = values;
  if (loopback === (target !== undefined)) {
    throw usageFailure('options --loopback and --target: accepted is one of the two');
  }
  if (loopback && metadata !== P2P) {
    throw usageFailure(`option --metadata is "${metadata}"; accepted with --loopback: ${P2P}`);
  }
  const requests = values.batch * values.depth;
  if (requests > REQUESTS_MAX) {
    throw usageFailure(
      `--batch times --depth is ${requests} requests in flight; accepted: up to ${REQUESTS_MAX}`,
    );
  }
  const size = footprint(values);
  if (size > MEMORY_BYTES_MAX) {
    throw usageFailure(
      `--block times --batch times --depth is ${size} bytes; accepted: up to ${MEMORY_BYTES_MAX}`,
    );
  }
}

interface Setting {
  readonly load: EngineLoad;
  readonly memory: Buffer;
  readonly target: TeProcess | undefined;
  readonly ceilingPeer: TeProcess | undefined;
}

async function run(values: Values, context: CommandContext): Promise<number> {
  const setting = await setUp(() => prepare(values, context));
  const durationMs = (values.duration * 1e3) / ROUNDS;
  const warmUpMs = Math.min(WARM_UP_MS, durationMs);
  await setting.load.run(warmUpMs, context.shutdown.signal);

  const ceilings: number[] = [];
  const rounds: Round[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    if (setting.ceilingPeer !== undefined) {
      const ceiling = await measureCeiling(setting.ceilingPeer, values, setting.memory, {
        warmUpMs,
        durationMs,
      });
      ceilings.push(ceiling);
      report('node:net', round, ceiling, context);
    }
    const measured = await measureRound(setting, durationMs, context);
    rounds.push(measured);
    report('engine', round, gbpsOf(measured.load), context);
  }
  context.output.event(...resultOf(values, rounds, ceilings));
  return ExitCode.ok;
}

async function prepare(values: Values, context: CommandContext): Promise<Setting> {
  const size = footprint(values);
  const memory = Buffer.alloc(size, 1);
  const target = values.loopback ? startTarget(values, size, context) : undefined;
  const ceilingPeer = values.noCeiling
    ? undefined
    : new TeProcess(
        'ceiling',
        ['ceiling-peer', `--block=${values.block}`, `--size=${size}`],
        context,
      );
  const name =
    values.name ?? (values.metadata === P2P ? undefined : `te-bench-${hostname()}-${process.pid}`);
  const engine = await startEngine({ ...values, name }, context);
  const local = await engine.registerMemory(memory, { permission: 'local-read-write' });
  const segment = await openTarget(engine, values, target);
  const remote = largestBuffer(segment, size);
  await ceilingPeer?.next('ready', CHILD_MS);
  context.output.event(
    { event: 'opened', name: segment.name, protocol: segment.protocols.join(',') },
    `measuring ${values.op} on ${segment.name}`,
  );
  const load = new EngineLoad(engine, segment, local, remote.address, values, values.timeout);
  return { load, memory, target, ceilingPeer };
}

function startTarget(values: Values, size: number, context: CommandContext): TeProcess {
  const argv = ['target', `--size=${size}`, `--transports=${values.transports.join(',')}`];
  return new TeProcess('target', argv, context);
}

async function openTarget(
  engine: Engine,
  values: Values,
  target: TeProcess | undefined,
): Promise<Segment> {
  const name =
    target === undefined
      ? (values.target ?? '')
      : textOf(await target.next('ready', CHILD_MS), 'segment');
  return await engine.openSegment(name, { timeoutMs: CHILD_MS });
}

function largestBuffer(segment: Segment, size: number): SegmentBuffer {
  const [first, ...rest] = segment.buffers;
  const largest = rest.reduce(
    (best, one) => (best !== undefined && best.length >= one.length ? best : one),
    first,
  );
  if (largest !== undefined && largest.length >= size) return largest;
  throw new EngineError(
    'ERR_TE_INVALID_ARGUMENT',
    `--block times --batch times --depth is ${size} bytes; accepted: up to ${largest?.length ?? 0}, ` +
      `the largest buffer of ${segment.name}`,
  );
}

interface Round {
  readonly load: LoadResult;
  /** CPU of the target process; unknown when it is not ours. */
  readonly targetCpuSeconds: number | undefined;
}

async function measureRound(
  { load, target }: Setting,
  durationMs: number,
  { shutdown }: CommandContext,
): Promise<Round> {
  const before = await cpuOf(target);
  const result = await load.run(durationMs, shutdown.signal);
  const after = await cpuOf(target);
  const known = before !== undefined && after !== undefined;
  return { load: result, targetCpuSeconds: known ? after - before : undefined };
}

async function cpuOf(target: TeProcess | undefined): Promise<number | undefined> {
  if (target === undefined) return undefined;
  const answer = await target.ask('cpu', 'cpu', CHILD_MS);
  return (numberOf(answer, 'user_us') + numberOf(answer, 'system_us')) / 1e6;
}

function report(what: string, round: number, gbps: number, { output }: CommandContext): void {
  const rate = rounded(gbps);
  output.event(
    { event: 'round', round: round + 1, what, gbps: rate },
    `round ${round + 1}: ${what.padEnd(8)} ${rate.toFixed(3)} GB/s`,
  );
}

function gbpsOf({ bytes: moved, elapsedMs }: LoadResult): number {
  return moved / elapsedMs / 1e6;
}

function resultOf(
  workload: Workload,
  rounds: readonly Round[],
  ceilings: readonly number[],
): [event: BenchResult, text: string] {
  const latency = new LatencyHistogram();
  for (const { load } of rounds) latency.merge(load.latency);
  const sum = (pick: (round: Round) => number) =>
    rounds.reduce((total, one) => total + pick(one), 0);
  const gigabytes = sum(({ load }) => load.bytes) / 1e9;
  const gbps = median(rounds.map(({ load }) => gbpsOf(load)));
  const ceiling = ceilings.length === 0 ? undefined : median(ceilings);
  const ownTarget = rounds.every(({ targetCpuSeconds }) => targetCpuSeconds !== undefined);
  const result: BenchResult = {
    event: 'result',
    op: workload.op,
    block: workload.block,
    batch: workload.batch,
    transport: rounds[0]?.load.transport ?? '',
    gbps: rounded(gbps),
    ops_per_s: rounded(median(rounds.map(({ load }) => (load.requests / load.elapsedMs) * 1e3)), 6),
    p50_us: rounded(latency.percentileUs(50)),
    p99_us: rounded(latency.percentileUs(99)),
    p999_us: rounded(latency.percentileUs(99.9)),
    cpu_s_per_gb: {
      initiator: rounded(sum(({ load }) => load.cpuSeconds) / gigabytes),
      target: ownTarget ? rounded(sum((one) => one.targetCpuSeconds ?? 0) / gigabytes) : null,
    },
    loop_delay_p99_ms: rounded(Math.max(...rounds.map(({ load }) => load.loopDelayP99Ms))),
    ceiling: ceiling === undefined ? null : { name: 'node:net', gbps: rounded(ceiling) },
    ratio: ceiling === undefined ? null : rounded(gbps / ceiling),
  };
  return [result, resultText(result)];
}

/** The last line of a bench; its members are fixed, because programs read them. */
type BenchResult = {
  readonly event: 'result';
  readonly op: string;
  readonly block: number;
  readonly batch: number;
  readonly transport: string;
  readonly gbps: number;
  readonly ops_per_s: number;
  readonly p50_us: number;
  readonly p99_us: number;
  readonly p999_us: number;
  readonly cpu_s_per_gb: { readonly initiator: number; readonly target: number | null };
  readonly loop_delay_p99_ms: number;
  readonly ceiling: { readonly name: string; readonly gbps: number } | null;
  readonly ratio: number | null;
};

function resultText(result: BenchResult): string {
  const { initiator, target } = result.cpu_s_per_gb;
  const rows = [
    [`${result.op} ${formatBytes(result.block)} x ${result.batch} over ${result.transport}`, ''],
    ['throughput', `${result.gbps.toFixed(3)} GB/s`],
    ['requests', `${Math.round(result.ops_per_s)} /s`],
    ['batch p50', formatMicroseconds(result.p50_us)],
    ['batch p99', formatMicroseconds(result.p99_us)],
    ['batch p99.9', formatMicroseconds(result.p999_us)],
    ['CPU initiator', `${initiator} s/GB`],
    ...(target === null ? [] : [['CPU target', `${target} s/GB`]]),
    ['loop delay p99', `${result.loop_delay_p99_ms} ms`],
    ...(result.ceiling === null
      ? []
      : [
          [`bare ${result.ceiling.name}`, `${result.ceiling.gbps.toFixed(3)} GB/s`],
          ['ratio', String(result.ratio)],
        ]),
  ];
  return `\n${textTable(rows, 1)}`;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? 0)) / 2;
}
