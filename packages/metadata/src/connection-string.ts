import { invalidArgument } from '@transfer-engine/core/metadata';

/** The text that makes an engine ask its peers directly instead of a store. Case-sensitive. */
export const P2P_HANDSHAKE = 'P2PHANDSHAKE';

export type StoreScheme = 'http' | 'https' | 'etcd' | 'redis';

export interface ConnectionString {
  readonly scheme: StoreScheme;
  /** What follows `://`; all of the text when there was no scheme. */
  readonly target: string;
  /** The text as it was given. */
  readonly uri: string;
}

const SCHEMES: ReadonlySet<string> = new Set<StoreScheme>(['http', 'https', 'etcd', 'redis']);

/**
 * Reads the text that names a metadata store.
 *
 * The scheme is what stands before the first `://`, compared with its case; text without one means
 * etcd endpoints. Source: Mooncake 3b5a594, transfer_metadata_plugin.cpp (parseConnectionString).
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT` for an unknown scheme, an empty target, and for
 * "P2PHANDSHAKE", which names a mode of the engine and no store.
 */
export function parseConnectionString(uri: string): ConnectionString {
  if (typeof uri !== 'string' || uri.trim() === '')
    throw invalidArgument('metadata URI', uri, 'http://host:port/path or https://host:port/path');
  if (uri === P2P_HANDSHAKE)
    throw invalidArgument(
      'metadata URI',
      uri,
      'the URI of a store. P2PHANDSHAKE needs none: give that word to createEngine itself',
    );
  const separator = uri.indexOf('://');
  const scheme = separator < 0 ? 'etcd' : uri.slice(0, separator);
  const target = separator < 0 ? uri : uri.slice(separator + '://'.length);
  if (!isStoreScheme(scheme))
    throw invalidArgument(
      'metadata URI',
      withoutCredentials(uri),
      'http:// and https:// (schemes are in lower case), or the word P2PHANDSHAKE for createEngine',
    );
  if (target === '') throw invalidArgument('metadata URI', uri, `${scheme}:// followed by a host`);
  return { scheme, target, uri };
}

/** A URI that may be shown: what stands before `@` in the authority is left out. */
export function withoutCredentials(uri: string): string {
  return uri.replace(/^([^:/?#]+:\/\/)?[^/?#]*@/, '$1');
}

function isStoreScheme(scheme: string): scheme is StoreScheme {
  return SCHEMES.has(scheme);
}
