import type { Engine } from '@transfer-engine/core';
import { defineCommand, type CommandContext } from '../command.ts';
import { checkEngineSettings, engineFacts, ENGINE_OPTIONS, startEngine } from '../engine-setup.ts';
import { ExitCode, setUp } from '../failures.ts';
import { fileSize, readFileInto } from '../memory-loader.ts';
import { bytes, flag, integer, text, type OptionValues } from '../options.ts';
import { linesOf } from '../stdin-lines.ts';
import { TargetBuffers } from '../target-buffers.ts';
import { TargetSession } from '../target-session.ts';
import { formatBytes } from '../units.ts';
import { MEMORY_BYTES_MAX } from '../memory-limit.ts';

const OPTIONS = {
  ...ENGINE_OPTIONS,
  size: bytes({
    min: 1,
    max: MEMORY_BYTES_MAX,
    help: 'size of each buffer (default 1048576, or the size of --file)',
  }),
  buffers: integer({ min: 0, max: 100_000, fallback: 1, help: 'number of buffers' }),
  seed: integer({
    min: 0,
    max: 0xffff_ffff,
    fallback: 7,
    help: 'byte i of a buffer is (i*131+SEED)&255',
  }),
  file: text('PATH', { help: "fill the buffers with the file's bytes instead" }),
  batchRegister: flag('publish all buffers at once'),
} as const;
type Values = OptionValues<typeof OPTIONS>;

const DEFAULT_SIZE = 1 << 20;

export const target = defineCommand({
  name: 'target',
  summary: 'Registers buffers, serves peers and obeys lines on standard input',
  details: `Standard input, one answer line for each line: sum | notifies | notify SEG NAME MSG |
probe SEG | fill SEED | check BUF OFF LEN SEED | addbuf BYTES | delbuf BUF | cpu | quit.
The end of the input is a quit.`,
  options: OPTIONS,
  jsonWhenPiped: true,
  check: checkEngineSettings,
  run,
});

async function run(values: Values, context: CommandContext): Promise<number> {
  const { output } = context;
  const size = await setUp(() => bufferSize(values));
  const engine = await startEngine(values, context);
  const buffers = await setUp(() => registerBuffers(engine, values, size));
  const facts = engineFacts(engine);
  output.event(
    { event: 'ready', ...facts, buffers: buffers.describe() },
    `segment ${facts.segment} is ready: ${values.buffers} buffers of ${formatBytes(size)}, ` +
      `control port ${facts.rpc_port}, TCP data port ${facts.tcp_data_port}`,
  );
  const session = new TargetSession(engine, buffers, output, values.seed);
  for await (const line of linesOf(context.stdin)) {
    if (!(await session.obey(line))) break;
  }
  await session.finish();
  return ExitCode.ok;
}

async function bufferSize(values: Values): Promise<number> {
  if (values.size !== undefined || values.file === undefined) return values.size ?? DEFAULT_SIZE;
  return await fileSize(values.file);
}

async function registerBuffers(
  engine: Engine,
  values: Values,
  size: number,
): Promise<TargetBuffers> {
  const buffers = new TargetBuffers(engine);
  const { file } = values;
  const fill = (memory: Buffer) =>
    file === undefined ? buffers.fill(memory, values.seed) : readFileInto(file, [memory]);
  for (let index = 1; index <= values.buffers; index += 1) {
    await buffers.add(size, fill, !values.batchRegister || index === values.buffers);
  }
  return buffers;
}
