import { EngineError } from '@transfer-engine/core';
import { defineCommand } from '../command.ts';
import { ExitCode } from '../failures.ts';
import { STORE_OPTIONS as OPTIONS, withStore } from '../store-command.ts';

export const metadataGet = defineCommand({
  name: 'metadata get',
  summary: 'Prints the document of a key; a missing one is a failure (exit code 1)',
  options: OPTIONS,
  positionals: ['KEY'],
  async run(values, context, [key = '']) {
    const { value, where } = await withStore(values, context, async ({ store, options }) => ({
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
    await withStore(values, context, ({ store, options }) => store.put(key, value, options));
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
    await withStore(values, context, ({ store, options }) => store.remove(key, options));
    context.output.event({ event: 'rm', key }, `removed ${key}`);
    return ExitCode.ok;
  },
});
