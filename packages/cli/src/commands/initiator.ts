import { defineCommand, type CommandContext } from '../command.ts';
import { checkEngineSettings, engineFacts, ENGINE_OPTIONS, startEngine } from '../engine-setup.ts';
import { EngineError, type Engine, type Segment } from '@transfer-engine/core';
import { ExitCode, setUp, SetUpFailure } from '../failures.ts';
import { InitiatorOperations, OPERATIONS, type Operation } from '../initiator-operations.ts';
import {
  address,
  anyText,
  bytes,
  integer,
  list,
  requiredText,
  type OptionValues,
} from '../options.ts';
import { formatBytes, formatMicroseconds } from '../units.ts';

const MAX_BYTES = Number.MAX_SAFE_INTEGER;
const OPTIONS = {
  ...ENGINE_OPTIONS,
  target: requiredText('SEGMENT', 'segment to work with'),
  op: list(OPERATIONS, {
    help: 'operations in order, separated by commas',
    fallback: undefined,
  }),
  offset: bytes({
    min: 0,
    max: MAX_BYTES,
    fallback: 0,
    help: 'first byte in the remote buffer, or from --addr',
  }),
  length: bytes({ min: 0, max: MAX_BYTES, fallback: 4096, help: 'bytes of each request' }),
  batch: integer({
    min: 1,
    max: 1_000_000,
    fallback: 1,
    help: 'requests of a batch, side by side',
  }),
  bufferIndex: integer({
    min: 0,
    max: 1_000_000,
    fallback: 0,
    help: "remote buffer, in the order of the segment's document",
  }),
  addr: address('base address in the segment, instead of a buffer'),
  wseed: integer({
    min: 0,
    max: 0xffff_ffff,
    fallback: 42,
    help: 'byte i that is written is ((offset+i)*131+WSEED)&255',
  }),
  rseed: integer({
    min: 0,
    max: 0xffff_ffff,
    help: 'verify against the fill of a target with this seed',
  }),
  repeat: integer({
    min: 1,
    max: 1_000_000_000,
    fallback: 1,
    help: 'run the list of operations so often',
  }),
  notifyName: anyText('NAME', { help: 'name of notifications', fallback: 'te' }),
  notifyMsg: anyText('TEXT', { help: 'text of notifications', fallback: 'done' }),
  timeout: integer({
    min: 1,
    max: 86_400_000,
    fallback: 30_000,
    help: 'bound of each operation, in milliseconds',
  }),
} as const;
type Values = OptionValues<typeof OPTIONS>;

export const initiator = defineCommand({
  name: 'initiator',
  summary: 'Runs operations on a segment, one result line each, and stops at the first failure',
  details: `Operations: ${OPERATIONS.join(', ')}.
wait waits until a notification arrives, at most --timeout; notify uses the opened
segment, notifybyname its name; writenotify writes and notifies when the bytes are there.`,
  options: OPTIONS,
  jsonWhenPiped: true,
  check: checkEngineSettings,
  run,
});

async function run(values: Values, context: CommandContext): Promise<number> {
  const { output } = context;
  const engine = await startEngine(values, context);
  const facts = engineFacts(engine);
  output.event(
    { event: 'up', ...facts, host: engine.address.host },
    `segment ${facts.segment} is up`,
  );
  const segment = await setUp(() =>
    engine.openSegment(values.target, { timeoutMs: values.timeout }),
  );
  output.event(
    {
      event: 'opened',
      handle: segment.id,
      name: segment.name,
      protocol: segment.protocols.join(','),
      tcp_data_port: segment.tcpDataPort,
      tcp_proto_version: segment.tcpProtoVersion,
      buffers: describeBuffers(segment),
    },
    `segment ${segment.name} is open: ${segment.buffers.length} buffers`,
  );
  const operations = await setUp(() => prepareOperations(engine, segment, values));
  const failures = await runAll(operations, values, context);
  output.event({ event: 'exit', failures }, failures === 0 ? 'all operations done' : 'failed');
  return failures === 0 ? ExitCode.ok : ExitCode.operationFailed;
}

/** Runs the list `--repeat` times; ends at the first failure and returns the number of failures. */
async function runAll(
  operations: InitiatorOperations,
  values: Values,
  context: CommandContext,
): Promise<number> {
  for (let repetition = 0; repetition < values.repeat; repetition += 1) {
    for (const op of values.op) {
      const { ok, us, bytes, error, facts } = await operations.run(op);
      const note = ok ? formatBytes(bytes) : (error?.message ?? '');
      context.output.event(
        {
          event: 'op',
          op,
          ok,
          us,
          bytes,
          ...facts,
          ...(error === undefined ? {} : { error: { ...error } }),
        },
        `${op} ${ok ? 'ok' : 'failed'} in ${formatMicroseconds(us)}: ${note}`,
      );
      if (!ok) return 1;
    }
  }
  return 0;
}

async function prepareOperations(
  engine: Engine,
  segment: Segment,
  values: Values,
): Promise<InitiatorOperations> {
  const moves = values.op.some((op) => MOVES.has(op));
  const base = moves ? remoteBase(segment, values) : 0n;
  return await InitiatorOperations.prepare(engine, segment, {
    remoteAddress: base + BigInt(values.offset),
    offset: values.offset,
    length: moves ? values.length : 0,
    batch: moves ? values.batch : 1,
    writeSeed: values.wseed,
    readSeed: values.rseed,
    notification: { name: values.notifyName, message: values.notifyMsg },
    timeoutMs: values.timeout,
  });
}

const MOVES: ReadonlySet<Operation> = new Set(['write', 'read', 'verify', 'writenotify'] as const);

function remoteBase(segment: Segment, values: Values): bigint {
  if (values.addr !== undefined) return values.addr;
  const buffer = segment.buffers[values.bufferIndex];
  if (buffer !== undefined) return buffer.address;
  throw new SetUpFailure(
    new EngineError(
      'ERR_TE_INVALID_ARGUMENT',
      `option --buffer-index is ${values.bufferIndex}; accepted: below ${segment.buffers.length}, ` +
        `the number of buffers of ${segment.name}, or use --addr`,
    ),
  );
}

function describeBuffers(segment: Segment) {
  return segment.buffers.map(({ name, address: start, length }, index) => ({
    index,
    addr: start.toString(),
    length,
    name,
  }));
}
