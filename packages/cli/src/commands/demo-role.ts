import type { Engine } from '@transfer-engine/core';
import { defineCommand, type CommandContext } from '../command.ts';
import { BlockPlan, ROLES } from '../demo/block-plan.ts';
import { moveBlocks } from '../demo/block-mover.ts';
import { DEMO_OPTIONS } from '../demo/demo-options.ts';
import { PagedCache } from '../demo/paged-cache.ts';
import { P2P, startEngine } from '../engine-setup.ts';
import { ExitCode, setUp } from '../failures.ts';
import { bytes, choice, type OptionValues } from '../options.ts';
import { linesOf } from '../stdin-lines.ts';
import { MEMORY_BYTES_MAX } from '../memory-limit.ts';

const OPTIONS = {
  ...DEMO_OPTIONS,
  role: choice(ROLES, { help: 'which side to play', fallback: 'prefill' }),
  size: bytes({ min: 1, max: MEMORY_BYTES_MAX, fallback: 1, help: 'bytes of the file' }),
} as const;
type Values = OptionValues<typeof OPTIONS>;

const OPEN_TIMEOUT_MS = 10_000;
const PROGRESS_MS = 50;

/**
 * One of the two processes of `te demo`. Lines on standard input: `move OPCODE TRANSPORT SEGMENT`
 * moves all blocks; `wipe` forgets them. A notification of the peer is answered with what the
 * cache holds now.
 */
export const demoRole = defineCommand({
  name: 'demo-role',
  summary: 'One side of the demo',
  internal: true,
  options: OPTIONS,
  run,
});

async function run(values: Values, context: CommandContext): Promise<number> {
  const { output, shutdown } = context;
  const engine = await startEngine(
    {
      metadata: P2P,
      name: undefined,
      transports: values.transports,
      host: undefined,
      bindHost: undefined,
      rpcPort: undefined,
      strict: false,
    },
    context,
  );
  const cache = await setUp(async () => {
    const plan = new BlockPlan({
      bytes: values.size,
      blockBytes: values.block,
      layers: values.layers,
      seed: values.seed,
    });
    const registered = await PagedCache.register(engine, plan, values.role);
    if (values.role === 'prefill') await registered.load(values.file);
    return registered;
  });
  output.event({ event: 'ready', segment: engine.segmentName, ...(await stateOf(cache)) });

  const announced = announceNotifications(engine, cache, context).catch((thrown: unknown) =>
    output.failure('te demo-role', thrown),
  );
  for await (const line of linesOf(context.stdin)) {
    const [command = '', opcode = '', transport = '', segment = ''] = (line ?? '').split(' ');
    if (command === 'wipe') {
      cache.wipe();
      output.event({ event: 'wiped', ...(await stateOf(cache)) });
    } else if (command === 'move' && (opcode === 'read' || opcode === 'write')) {
      await move(engine, cache, { opcode, transport, segment }, values, context);
    }
  }
  await shutdown.run();
  await announced;
  return ExitCode.ok;
}

interface MoveCommand {
  readonly opcode: 'read' | 'write';
  readonly transport: string;
  readonly segment: string;
}

async function move(
  engine: Engine,
  cache: PagedCache,
  { opcode, transport, segment }: MoveCommand,
  values: Values,
  { output }: CommandContext,
): Promise<void> {
  let reportedMs = 0;
  const peer = await engine.openSegment(segment, { timeoutMs: OPEN_TIMEOUT_MS });
  const {
    bytes: moved,
    batches,
    elapsedMs,
    latency,
  } = await moveBlocks({
    engine,
    cache,
    peer,
    opcode,
    transport,
    blocksPerBatch: values.batch,
    batchesInFlight: values.depth,
    notify: { name: 'kv-blocks', message: `${opcode} of ${cache.plan.blocks} blocks is complete` },
    onProgress: (done) => {
      const now = performance.now();
      if (now - reportedMs < PROGRESS_MS) return;
      reportedMs = now;
      output.event({ event: 'progress', bytes: done });
    },
  });
  output.event({
    event: 'moved',
    bytes: moved,
    batches,
    ms: elapsedMs,
    p50_us: latency.percentileUs(50),
    p99_us: latency.percentileUs(99),
    ...(await stateOf(cache)),
  });
}

async function announceNotifications(
  engine: Engine,
  cache: PagedCache,
  { output }: CommandContext,
): Promise<void> {
  for await (const { name, message } of engine.notifications()) {
    output.event({ event: 'notified', name, msg: message, ...(await stateOf(cache)) });
  }
}

async function stateOf(cache: PagedCache): Promise<{ sha256: string; spare_intact: boolean }> {
  return { sha256: await cache.sha256(), spare_intact: cache.spareIntact() };
}
