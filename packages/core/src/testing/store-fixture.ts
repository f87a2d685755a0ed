import type { MetadataStore } from '../metadata/metadata-store.ts';

/**
 * What a store or its server can do beyond get, put and remove.
 *
 * `list`, `watch`, `lease`: the members of the store; `large`: documents of 8 MiB; `limit`: the
 * server refuses documents above `limitBytes`; `restart`: the server can be restarted.
 */
export type StoreRequirement = 'list' | 'watch' | 'lease' | 'large' | 'limit' | 'restart';

/** What the author of a metadata store hands in. */
export interface StoreFixture {
  /** Opens a store over the directory of this fixture; the suite closes it. */
  openStore(): Promise<MetadataStore>;
  /** Time after which what has not happened will not, in milliseconds. Default 20,000. */
  readonly patienceMs?: number;
  /** For `limit`: a document of more bytes is refused by the server. */
  readonly limitBytes?: number;
  /**
   * For `restart`: ends the server and starts it again, empty, at the same address. The suite
   * works while the server is away, too: in `whileDown`.
   */
  restart?(whileDown: () => Promise<void>): Promise<void>;
}
