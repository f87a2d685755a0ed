import { EngineError, type MetadataStore } from '@transfer-engine/core';
import type { CommandContext } from './command.ts';
import { openMetadata } from './engine-setup.ts';
import { setUp, usageFailure } from './failures.ts';
import { integer, requiredText, type OptionValues } from './options.ts';

/** Options of every command that works on a store. */
export const STORE_OPTIONS = {
  metadata: requiredText('URI', 'the store, like http://127.0.0.1:8080/metadata'),
  timeout: integer({ min: 1, max: 600_000, fallback: 5_000, help: 'bound, in milliseconds' }),
} as const;
type Values = OptionValues<typeof STORE_OPTIONS>;

/** A store with the bounds of the command. */
export interface BoundedStore {
  readonly store: MetadataStore;
  readonly options: { readonly timeoutMs: number; readonly signal: AbortSignal };
  list(this: void, prefix: string): Promise<string[]>;
}

/** A store that cannot be reached, or refuses, is a failure of the set-up. */
export async function withStore<T>(
  values: Values,
  context: CommandContext,
  work: (bounded: BoundedStore) => Promise<T>,
): Promise<T> {
  return await setUp(async () => {
    const store = await openMetadata(values.metadata, context.environment);
    if (store === undefined) {
      throw usageFailure(
        `option --metadata is ${JSON.stringify(values.metadata)}; accepted: the URI of a store, ` +
          'peer-to-peer mode has none',
      );
    }
    context.shutdown.add(() => store.close());
    const options = { timeoutMs: values.timeout, signal: context.shutdown.signal };
    return await work({
      store,
      options,
      list: (prefix) => {
        if (store.list !== undefined) return store.list(prefix, options);
        throw new EngineError(
          'ERR_TE_NOT_IMPLEMENTED',
          `${store.description} cannot list its keys`,
        );
      },
    });
  });
}
