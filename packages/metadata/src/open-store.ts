import { EngineError, type MetadataStore } from '@transfer-engine/core/metadata';
import { parseConnectionString, withoutCredentials } from './connection-string.ts';
import type { HttpStoreOptions } from './http/http-store.ts';

/** Options of every kind of store; each reads what concerns it. */
export type OpenStoreOptions = HttpStoreOptions;

/**
 * Opens the metadata store that a URI names, as the C++ engine's connection strings do.
 *
 * `http://` and `https://` are served here. The client library is loaded when it is needed, not
 * before. Nothing is sent until the first call on the store. The caller closes it, or gives it to
 * an engine, which closes it.
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT` for text that names no store,
 * `ERR_TE_NOT_SUPPORTED_TRANSPORT` for etcd and redis, and when undici is not installed.
 */
export async function openStore(
  uri: string,
  options: OpenStoreOptions = {},
): Promise<MetadataStore> {
  const { scheme } = parseConnectionString(uri);
  if (scheme === 'etcd' || scheme === 'redis') throw unsupported(scheme, uri);
  const { HttpStore } = await loadHttp();
  return new HttpStore(uri, options);
}

function unsupported(scheme: string, uri: string): EngineError {
  const shown = withoutCredentials(uri);
  const reading = uri.includes('://') ? '' : ' (text without a scheme means etcd endpoints)';
  return new EngineError(
    'ERR_TE_NOT_SUPPORTED_TRANSPORT',
    `the metadata URI "${shown}" names a store of scheme "${scheme}"${reading}, which this version ` +
      'cannot open; supported: http://host:port/path, https://host:port/path, and P2PHANDSHAKE, ' +
      'which needs no store',
    { details: { scheme, uri: shown, supported: ['http', 'https'] } },
  );
}

async function loadHttp(): Promise<typeof import('./http/http-store.ts')> {
  try {
    return await import('./http/http-store.ts');
  } catch (error) {
    throw new EngineError(
      'ERR_TE_NOT_SUPPORTED_TRANSPORT',
      'HTTP metadata stores need the package undici (version 7); install it beside ' +
        '@transfer-engine/metadata',
      { cause: error },
    );
  }
}
