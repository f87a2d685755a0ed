import { invalidArgument } from '@transfer-engine/core/metadata';

/** The text that makes an engine ask its peers directly instead of a store. Case-sensitive. */
export const P2P_HANDSHAKE = 'P2PHANDSHAKE';

/** Every scheme, and the kind of store that it means. The first of a kind is also C++'s. */
const KINDS = {
  http: 'http',
  https: 'http',
  etcd: 'etcd',
  etcds: 'etcd',
  'etcd+http': 'etcd-gateway',
  'etcd+https': 'etcd-gateway',
  redis: 'redis',
  rediss: 'redis',
  'redis+sentinel': 'redis',
  'rediss+sentinel': 'redis',
  'redis+cluster': 'redis',
  'rediss+cluster': 'redis',
} as const;

export type StoreScheme = keyof typeof KINDS;
export type StoreKind = (typeof KINDS)[StoreScheme];

export interface ConnectionString {
  readonly scheme: StoreScheme;
  readonly kind: StoreKind;
  /** What follows `://`; all of the text when there was no scheme. */
  readonly target: string;
  /** The text as it was given. */
  readonly uri: string;
}

const ACCEPTED =
  'http://host:port/path, https://…, etcd://host:port, etcds://…, etcd+http://host:port, ' +
  'redis://host:port, rediss://…, redis+sentinel://…, redis+cluster://… (schemes are in lower case)';

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
    throw invalidArgument('metadata URI', uri, ACCEPTED);
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
      `${ACCEPTED}, or the word P2PHANDSHAKE for createEngine`,
    );
  if (target === '') throw invalidArgument('metadata URI', uri, `${scheme}:// followed by a host`);
  return { scheme, kind: KINDS[scheme], target, uri };
}

/** A URI that may be shown: what stands before `@` in the authority is left out. */
export function withoutCredentials(uri: string): string {
  return uri.replace(/^([^:/?#]+:\/\/)?[^/?#]*@/, '$1');
}

function isStoreScheme(scheme: string): scheme is StoreScheme {
  return Object.hasOwn(KINDS, scheme);
}
