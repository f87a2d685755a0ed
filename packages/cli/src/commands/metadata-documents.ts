import { EngineError, type MetadataStore } from '@transfer-engine/core';
import { defineCommand, type CommandContext } from '../command.ts';
import { openMetadata } from '../engine-setup.ts';
import { ExitCode, setUp, usageFailure } from '../failures.ts';
import { integer, requiredText, type OptionValues } from '../options.ts';

const OPTIONS = {
  metadata: requiredText('URI', 'the store, like http://127.0.0.1:8080/metadata'),
  timeout: integer({ min: 1, max: 600_000, fallback: 5_000, help: 'bound, in milliseconds' }),
} as const;
type Values = OptionValues<typeof OPTIONS>;

/** A store that cannot be reached, or refuses, is a failure of the set-up. */
async function withStore<T>(
  values: Values,
  context: CommandContext,
  work: (store: MetadataStore, options: { timeoutMs: number; signal: AbortSignal }) => Promise<T>,
): Promise<T> {
  return await setUp(async () => {
    const store = await openMetadata(values.metadata);
    if (store === undefined) {
      throw usageFailure(
        `option --metadata is ${JSON.stringify(values.metadata)}; accepted: the URI of a store, ` +
          'peer-to-peer mode has none',
      );
    }
    context.shutdown.add(() => store.close());
    return await work(store, { timeoutMs: values.timeout, signal: context.shutdown.signal });
  });
}

export const metadataGet = defineCommand({
  name: 'metadata get',
  summary: 'Prints the document of a key; a missing one is a failure (exit code 1)',
  options: OPTIONS,
  positionals: ['KEY'],
  async run(values, context, [key = '']) {
    const { value, where } = await withStore(values, context, async (store, options) => ({
      value: await store.get(key, options),
      where: store.description,
    }));
    if (value === undefined) {
      throw new EngineError(
        'ERR_TE_METADATA',
        `${where} has no key ${JSON.stringify(key)}; keys look like mooncake/ram/NAME`,
      );
    }
    context.output.event({ event: 'get', key, value }, value);
    return ExitCode.ok;
  },
});

export const metadataPut = defineCommand({
  name: 'metadata put',
  summary: 'Stores a document under a key',
  options: OPTIONS,
  positionals: ['KEY', 'VALUE'],
  async run(values, context, [key = '', value = '']) {
    await withStore(values, context, (store, options) => store.put(key, value, options));
    context.output.event({ event: 'put', key }, `stored ${key}`);
    return ExitCode.ok;
  },
});

export const metadataRm = defineCommand({
  name: 'metadata rm',
  summary: 'Removes the document of a key; removing a missing one succeeds',
  options: OPTIONS,
  positionals: ['KEY'],
  async run(values, context, [key = '']) {
    await withStore(values, context, (store, options) => store.remove(key, options));
    context.output.event({ event: 'rm', key }, `removed ${key}`);
    return ExitCode.ok;
  },
});
