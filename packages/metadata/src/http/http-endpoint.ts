import { invalidArgument } from '@transfer-engine/core/metadata';
import { withoutCredentials } from '../connection-string.ts';

/** Where requests of an HTTP store go. */
export interface HttpEndpoint {
  /** "http://host:port" */
  readonly origin: string;
  /** Path and query of the URI, "/metadata". */
  readonly path: string;
  /** Everything before a parameter, "/metadata?". */
  readonly queryPrefix: string;
  /** Everything before the key, "/metadata?key=". */
  readonly pathPrefix: string;
  /** Value of the Authorization header, when the URI holds credentials. */
  readonly authorization: string | undefined;
  /** The URI without credentials and query, for messages. */
  readonly description: string;
}

/**
 * Splits the URI of an HTTP store.
 *
 * The key is appended as a parameter named `key`: after `?`, or after `&` when the URI already has
 * a query. Source: Mooncake 3b5a594, transfer_metadata_plugin.cpp (HTTPStoragePlugin).
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT`
 */
export function parseHttpEndpoint(uri: string): HttpEndpoint {
  const accepted = 'http://host:port/path or https://host:port/path, without a fragment (#)';
  const url = URL.canParse(uri) ? new URL(uri) : undefined;
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:'))
    throw invalidArgument('metadata URI', withoutCredentials(uri), accepted);
  if (uri.includes('#')) throw invalidArgument('metadata URI', withoutCredentials(uri), accepted);
  const separator = url.search === '' ? '?' : '&';
  const credentials = url.username !== '' || url.password !== '';
  return {
    origin: url.origin,
    path: url.pathname + url.search,
    queryPrefix: `${url.pathname}${url.search}${separator}`,
    pathPrefix: `${url.pathname}${url.search}${separator}key=`,
    authorization: credentials ? basicAuthorization(url.username, url.password) : undefined,
    description: `${url.origin}${url.pathname}`,
  };
}

/**
 * Percent-encodes a key: only `A-Za-z0-9-._~` stay as they are, so that `/` travels as `%2F`.
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT` for text that is not well-formed Unicode.
 */
export function encodeKey(key: string): string {
  if (/[\ud800-\udfff]/u.test(key))
    throw invalidArgument('metadata key', key, 'well-formed Unicode (no lone surrogates)');
  return encodeURIComponent(key).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function basicAuthorization(username: string, password: string): string {
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return `Basic ${Buffer.from(pair, 'utf8').toString('base64')}`;
}
