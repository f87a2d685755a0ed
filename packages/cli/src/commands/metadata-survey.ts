import { setTimeout as wait } from 'node:timers/promises';
import type { MetadataStore } from '@transfer-engine/core';
import { defineCommand, type CommandContext } from '../command.ts';
import { ExitCode } from '../failures.ts';
import {
  describeSegment,
  inParallel,
  placeOf,
  Prober,
  surveyEngines,
  type SurveyedEngine,
} from '../metadata-survey.ts';
import { anyText, flag, integer, text, type OptionValues } from '../options.ts';
import { STORE_OPTIONS, withStore, type BoundedStore } from '../store-command.ts';

const CLUSTER = {
  clusterId: text('ID', { help: 'cluster, as in MC_METADATA_CLUSTER_ID (the default)' }),
} as const;

export const metadataList = defineCommand({
  name: 'metadata list',
  summary: 'Prints the keys of a store that start with a prefix',
  options: {
    ...STORE_OPTIONS,
    prefix: anyText('TEXT', { help: 'start of the keys', fallback: 'mooncake/' }),
  },
  async run(values, context) {
    const keys = await withStore(values, context, ({ list }) => list(values.prefix));
    for (const key of keys) context.output.event({ event: 'key', key }, key);
    context.output.event({ event: 'listed', keys: keys.length });
    return ExitCode.ok;
  },
});

export const metadataDump = defineCommand({
  name: 'metadata dump',
  summary: 'Prints the documents of all engines of a cluster',
  options: { ...STORE_OPTIONS, ...CLUSTER },
  async run(values, context) {
    const engines = await withStore(values, context, (bounded) =>
      surveyEngines(bounded, clusterOf(values.clusterId, context)),
    );
    for (const { name, rpcMeta, segment } of engines) {
      context.output.event(
        { event: 'engine', name, rpc_meta: rpcMeta ?? null, segment: segment ?? null },
        [name, rpcMeta ?? '(no place)', segment ?? '(no segment)']
          .map((s) => s.trim())
          .join('\n  '),
      );
    }
    context.output.event({ event: 'dumped', engines: engines.length });
    return ExitCode.ok;
  },
});

const PRUNE = {
  ...STORE_OPTIONS,
  ...CLUSTER,
  dryRun: flag('says what would be removed, and removes nothing'),
  probeTimeout: integer({
    min: 1,
    max: 60_000,
    fallback: 2_000,
    help: 'time that an engine gets to answer, in milliseconds; it is asked twice',
  }),
  grace: integer({
    min: 0,
    max: 3_600_000,
    fallback: 6_000,
    help: 'documents that changed in this time, in milliseconds, are left alone',
  }),
} as const;

export const metadataPrune = defineCommand({
  name: 'metadata prune',
  summary: 'Removes the documents of engines that do not answer any more',
  details: `Every engine is asked at its control port, from this host: run it where all engines can
be reached, and try --dry-run first.`,
  options: PRUNE,
  async run(values, context) {
    const counts = await withStore(values, context, (bounded) => prune(bounded, values, context));
    const { alive, dead, removed } = counts;
    const done = values.dryRun ? 'nothing was removed (dry run)' : `${removed} keys removed`;
    context.output.event(
      { event: 'pruned', alive, dead, removed, dry_run: values.dryRun },
      `${alive} engines alive, ${dead} dead; ${done}`,
    );
    return ExitCode.ok;
  },
});

async function prune(
  bounded: BoundedStore,
  values: OptionValues<typeof PRUNE>,
  context: CommandContext,
): Promise<{ alive: number; dead: number; removed: number }> {
  const clusterId = clusterOf(values.clusterId, context);
  await using prober = await Prober.start(values.probeTimeout);
  const engines = await surveyEngines(bounded, clusterId);
  const verdicts = await inParallel(engines, async (engine) => {
    const place = placeOf(engine);
    // Who cannot be asked is left alone; a segment without a place was left by somebody.
    if (place === 'illegible') return { engine, alive: true };
    return { engine, alive: place !== 'missing' && (await prober.isAlive(place)) };
  });
  const dead = verdicts.filter(({ alive }) => !alive).map(({ engine }) => engine);
  let removed = 0;
  if (dead.length > 0) {
    // An engine that is starting, or whose documents were just lost, has changed them by then.
    await wait(values.grace, undefined, { signal: context.shutdown.signal });
  }
  for (const engine of dead) {
    const keys = await unchangedKeys(bounded.store, engine, bounded.options);
    if (!values.dryRun) for (const key of keys) await bounded.store.remove(key, bounded.options);
    if (!values.dryRun) removed += keys.length;
    const { name, rpcMeta, segment } = engine;
    const what = `${rpcMeta?.trim() ?? 'no place'}, ${describeSegment(segment)}`;
    const verb = values.dryRun ? 'would remove' : 'removed';
    context.output.event({ event: 'dead', name, keys }, `${verb} ${name} (${what})`);
  }
  return { alive: engines.length - dead.length, dead: dead.length, removed };
}

/** Keys that hold what they held when the engine was probed. */
async function unchangedKeys(
  store: MetadataStore,
  engine: SurveyedEngine,
  options: BoundedStore['options'],
): Promise<string[]> {
  const now = await Promise.all(
    [engine.rpcMetaKey, engine.segmentKey].map((key) => store.get(key, options)),
  );
  if (now[0] !== engine.rpcMeta || now[1] !== engine.segment) return [];
  return [engine.rpcMetaKey, engine.segmentKey].filter((_, index) => now[index] !== undefined);
}

function clusterOf(given: string | undefined, { environment }: CommandContext): string | undefined {
  return given ?? environment['MC_METADATA_CLUSTER_ID'];
}
