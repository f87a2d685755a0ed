import { EngineError } from '@transfer-engine/core';
import { numberOf, TeProcess, textOf, type ChildEvent } from '../child-process.ts';
import { defineCommand, type CommandContext } from '../command.ts';
import { BlockPlan, ROLES, type Role } from '../demo/block-plan.ts';
import { DEMO_OPTIONS } from '../demo/demo-options.ts';
import { ExitCode, setUp, usageFailure } from '../failures.ts';
import { fileSha256, fileSize } from '../memory-loader.ts';
import { bytes, type OptionValues } from '../options.ts';
import { ProgressBar } from '../progress-bar.ts';
import { textTable } from '../text-table.ts';
import { formatBytes, formatMicroseconds, rounded } from '../units.ts';
import { MEMORY_BYTES_MAX } from '../memory-limit.ts';

const OPTIONS = {
  ...DEMO_OPTIONS,
  size: bytes({
    min: 1,
    max: MEMORY_BYTES_MAX,
    help: 'share only the first bytes of the file (default: all)',
  }),
} as const;
type Values = OptionValues<typeof OPTIONS>;

const START_MS = 60_000;
const MOVE_MS = 120_000;

/** Directions of the demo: who starts the transfer, and how. */
const DIRECTIONS = [
  { opcode: 'write', mover: 'prefill', peer: 'decode', text: 'WRITE prefill -> decode' },
  { opcode: 'read', mover: 'decode', peer: 'prefill', text: 'READ  decode <- prefill' },
] as const;
type Direction = (typeof DIRECTIONS)[number];

interface Transferred {
  readonly transport: string;
  readonly direction: Direction;
  readonly bytes: number;
  readonly batches: number;
  readonly gbps: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly problem: string | undefined;
}

type Sides = Readonly<Record<Role, { readonly process: TeProcess; readonly segment: string }>>;

export const demo = defineCommand({
  name: 'demo',
  summary: 'Shares a file between a prefill and a decode process, verifies it, and shows figures',
  details: `The file is laid out as a paged KV cache: blocks in scattered pages, a buffer for each
layer, other pages on each side. All blocks move by WRITE, then by READ, in batches, each time with
a completion notification; SHA-256 is compared on both sides.`,
  options: OPTIONS,
  run,
});

async function run(values: Values, context: CommandContext): Promise<number> {
  const { output } = context;
  const size = await setUp(() => payloadSize(values));
  const plan = new BlockPlan({
    bytes: size,
    blockBytes: values.block,
    layers: values.layers,
    seed: values.seed,
  });
  output.event(
    { event: 'plan', file: values.file, bytes: size, blocks: plan.blocks, layers: plan.layers },
    `sharing ${values.file}: ${formatBytes(size)} in ${plan.blocks} blocks of ` +
      `${formatBytes(values.block)}, scattered over ${plan.layers} layers`,
  );
  const { sides, sum } = await setUp(() => startSides(values, size, context));
  const results: Transferred[] = [];
  for (const transport of values.transports) {
    for (const direction of DIRECTIONS) {
      results.push(await transfer(sides, transport, direction, sum, plan, context));
    }
  }
  const failures = results.filter((one) => one.problem !== undefined).length;
  output.text(`\n${resultTable(results)}\n`);
  const verdict =
    failures === 0
      ? `verified: SHA-256 ${sum} on both sides, in both directions`
      : `MISMATCH in ${failures} of ${results.length} transfers`;
  output.event({ event: 'exit', failures }, verdict);
  return failures === 0 ? ExitCode.ok : ExitCode.operationFailed;
}

async function payloadSize({ file, size }: Values): Promise<number> {
  const available = await fileSize(file);
  if (available === 0) throw usageFailure(`option --file is "${file}", which is empty`);
  if (size !== undefined && size > available) {
    throw usageFailure(
      `option --size is ${size}; accepted: up to ${available}, the size of ${file}`,
    );
  }
  return size ?? available;
}

async function startSides(
  values: Values,
  size: number,
  context: CommandContext,
): Promise<{ sides: Sides; sum: string }> {
  const argv = [
    `--file=${values.file}`,
    `--size=${size}`,
    `--block=${values.block}`,
    `--layers=${values.layers}`,
    `--batch=${values.batch}`,
    `--depth=${values.depth}`,
    `--seed=${values.seed}`,
    `--transports=${values.transports.join(',')}`,
  ];
  const processes = ROLES.map(
    (role) => new TeProcess(role, ['demo-role', `--role=${role}`, ...argv], context),
  );
  const [prefill, decode] = processes;
  if (prefill === undefined || decode === undefined) throw new Error('two roles');
  const [prefillReady, decodeReady, sum] = await Promise.all([
    prefill.next('ready', START_MS),
    decode.next('ready', START_MS),
    fileSha256(values.file, size),
  ]);
  if (prefillReady['sha256'] !== sum) {
    throw new EngineError('ERR_TE_INTERNAL', `prefill has not loaded what ${values.file} holds`);
  }
  const sides = {
    prefill: { process: prefill, segment: textOf(prefillReady, 'segment') },
    decode: { process: decode, segment: textOf(decodeReady, 'segment') },
  };
  context.output.event(
    { event: 'ready', prefill: sides.prefill.segment, decode: sides.decode.segment },
    `prefill is ${sides.prefill.segment}, decode is ${sides.decode.segment}\n`,
  );
  return { sides, sum };
}

async function transfer(
  sides: Sides,
  transport: string,
  direction: Direction,
  sum: string,
  plan: BlockPlan,
  { output }: CommandContext,
): Promise<Transferred> {
  const { opcode, mover, peer, text } = direction;
  // What decode holds now must not be able to pass for what it is about to get.
  const wiped = await sides.decode.process.ask('wipe', 'wiped', MOVE_MS);
  if (wiped['sha256'] === sum) throw new EngineError('ERR_TE_INTERNAL', 'decode was not wiped');

  const bar = new ProgressBar(output.screen, `${text} (${transport})`, plan.bytes);
  sides[mover].process.onProgress((event) => bar.update(numberOf(event, 'bytes')));
  let answers: [ChildEvent, ChildEvent];
  try {
    answers = await Promise.all([
      sides[mover].process.ask(
        `move ${opcode} ${transport} ${sides[peer].segment}`,
        'moved',
        MOVE_MS,
      ),
      sides[peer].process.next('notified', MOVE_MS),
    ]);
  } catch (thrown) {
    bar.abandon();
    throw thrown;
  }
  const [moved, notified] = answers;
  const ms = numberOf(moved, 'ms');
  const done = numberOf(moved, 'bytes');
  bar.finish(done, ms);
  const problem = problemOf(moved, notified, sum, plan);
  const result = {
    transport,
    direction,
    bytes: done,
    batches: numberOf(moved, 'batches'),
    gbps: rounded(done / ms / 1e6),
    p50Us: rounded(numberOf(moved, 'p50_us')),
    p99Us: rounded(numberOf(moved, 'p99_us')),
    problem,
  };
  output.event({
    event: 'transfer',
    transport,
    op: opcode,
    ok: problem === undefined,
    bytes: done,
    blocks: plan.blocks,
    batches: result.batches,
    gbps: result.gbps,
    p50_us: result.p50Us,
    p99_us: result.p99Us,
    notification: textOf(notified, 'msg'),
    sha256: { file: sum, [mover]: textOf(moved, 'sha256'), [peer]: textOf(notified, 'sha256') },
    ...(problem === undefined ? {} : { error: { code: 'ERR_TE_DATA_MISMATCH', message: problem } }),
  });
  if (problem !== undefined) output.text(`  ${problem}`);
  return result;
}

function problemOf(
  moved: ChildEvent,
  notified: ChildEvent,
  sum: string,
  plan: BlockPlan,
): string | undefined {
  if (numberOf(moved, 'bytes') !== plan.bytes) return 'not all bytes were moved';
  for (const [who, event] of [
    ['side that moved the blocks', moved],
    ['side that was notified', notified],
  ] as const) {
    if (event['sha256'] !== sum) return `SHA-256 of the ${who} differs`;
    if (event['spare_intact'] !== true) return `the ${who} has bytes outside the blocks changed`;
  }
  return undefined;
}

function resultTable(results: readonly Transferred[]): string {
  const header = ['transport', 'direction', 'bytes', 'batches', 'GB/s', 'p50', 'p99', 'verified'];
  const rows = results.map((one) => [
    one.transport,
    one.direction.text,
    formatBytes(one.bytes),
    String(one.batches),
    one.gbps.toFixed(2),
    formatMicroseconds(one.p50Us),
    formatMicroseconds(one.p99Us),
    one.problem === undefined ? 'yes' : 'NO',
  ]);
  return textTable([header, ...rows], 2);
}
