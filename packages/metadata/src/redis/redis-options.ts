import { invalidArgument } from '@transfer-engine/core/metadata';
import { withoutCredentials } from '../connection-string.ts';

export type RedisTopology = 'single' | 'sentinel' | 'cluster';

export interface RedisStoreOptions {
  /** Time for one call as a whole, in milliseconds, unless the call says. Default 5,000. */
  readonly timeoutMs?: number;
  readonly username?: string;
  readonly password?: string;
  /** Number of the database, 0 to 255. A cluster has only 0. */
  readonly db?: number;
  /** PEM texts; with `rediss` schemes also without. */
  readonly tls?: {
    readonly ca?: string | Buffer;
    readonly cert?: string | Buffer;
    readonly key?: string | Buffer;
    readonly servername?: string;
  };
  /** Credentials of the sentinels themselves. */
  readonly sentinelUsername?: string;
  readonly sentinelPassword?: string;
  /** Time between looks at watched keys where the server sends no notifications. Default 1,000. */
  readonly pollMs?: number;
}

export interface RedisEndpoint {
  readonly host: string;
  readonly port: number;
}

/** Where and how to connect, from the URI, the options and the environment, in this order. */
export interface RedisTarget {
  readonly topology: RedisTopology;
  readonly secure: boolean;
  readonly endpoints: readonly RedisEndpoint[];
  /** Name of the set that the sentinels watch over. */
  readonly masterName: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number;
  /** Without credentials. */
  readonly description: string;
}

const REDIS_PORT = 6379;
const SENTINEL_PORT = 26_379;
const DB_MAX = 255;
const DEFAULT_MASTER = 'mymaster';
const ACCEPTED =
  'redis://host:port, redis://user:password@host:port/db, rediss://…, ' +
  'redis+cluster://host:port,host:port or redis+sentinel://host:port,host:port/name/db';

/**
 * Reads the URI of a Redis store.
 *
 * `MC_REDIS_USERNAME`, `MC_REDIS_PASSWORD` and `MC_REDIS_DB_INDEX` count where the URI and the
 * options say nothing, as in C++, which reads host and port only from the URI. A port that is
 * missing is 6379; the C++ engine takes 12001 there, its port for handshakes, so give the port when
 * both kinds of engines share a store. Source: Mooncake 3b5a594, transfer_metadata_plugin.cpp
 * (RedisStoragePlugin, MetadataStoragePlugin::Create).
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT`
 */
export function parseRedisTarget(
  scheme: string,
  target: string,
  options: RedisStoreOptions,
  environment: Readonly<Record<string, string | undefined>>,
): RedisTarget {
  const refuse = () =>
    invalidArgument('metadata URI', withoutCredentials(`${scheme}://${target}`), ACCEPTED);
  const at = target.lastIndexOf('@');
  const [authority = '', ...path] = target.slice(at + 1).split('/');
  const [username, password] = at < 0 ? [] : credentialsOf(target.slice(0, at));
  const topology = topologyOf(scheme);
  const defaultPort = topology === 'sentinel' ? SENTINEL_PORT : REDIS_PORT;
  const endpoints = authority
    .split(/[,;]/)
    .filter((part) => part.trim() !== '')
    .map((part) => toEndpoint(part.trim(), defaultPort));
  const segments = path.filter((part) => part !== '');
  const masterName =
    topology === 'sentinel' ? decodeURIComponent(segments.shift() ?? DEFAULT_MASTER) : '';
  const dbText = segments.shift();
  const db = dbText === undefined ? undefined : Number(dbText);
  const wellFormed =
    endpoints.length > 0 &&
    endpoints.every((endpoint) => endpoint !== undefined) &&
    segments.length === 0 &&
    (topology !== 'single' || endpoints.length === 1) &&
    (dbText === undefined || (/^\d{1,3}$/.test(dbText) && Number(dbText) <= DB_MAX));
  if (!wellFormed) throw refuse();
  const shown = endpoints.map((endpoint) => `${bracketed(endpoint?.host ?? '')}:${endpoint?.port}`);
  const wantedDb = db ?? options.db ?? environmentDb(environment);
  if (!Number.isInteger(wantedDb) || wantedDb < 0 || wantedDb > DB_MAX)
    throw invalidArgument('db', wantedDb, `an integer from 0 to ${DB_MAX}`);
  if (topology === 'cluster' && wantedDb !== 0)
    throw invalidArgument('db', wantedDb, '0: a cluster has no other database');
  return {
    topology,
    secure: scheme.startsWith('rediss') || options.tls !== undefined,
    endpoints: endpoints,
    masterName,
    username: notEmpty(username) ?? options.username ?? notEmpty(environment['MC_REDIS_USERNAME']),
    password: notEmpty(password) ?? options.password ?? notEmpty(environment['MC_REDIS_PASSWORD']),
    db: wantedDb,
    description: `${scheme}://${shown.join(',')}${masterName === '' ? '' : `/${masterName}`}`,
  };
}

function topologyOf(scheme: string): RedisTopology {
  if (scheme.endsWith('+sentinel')) return 'sentinel';
  return scheme.endsWith('+cluster') ? 'cluster' : 'single';
}

/** An invalid number counts as 0, as in C++. */
function environmentDb(environment: Readonly<Record<string, string | undefined>>): number {
  const text = environment['MC_REDIS_DB_INDEX'] ?? '';
  return /^\d{1,3}$/.test(text) && Number(text) <= DB_MAX ? Number(text) : 0;
}

function notEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

/** "user:password", ":password" or, as redis-cli has it, a user alone. */
function credentialsOf(text: string): [string, string] {
  const colon = text.indexOf(':');
  const parts = colon < 0 ? [text, ''] : [text.slice(0, colon), text.slice(colon + 1)];
  return parts.map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  }) as [string, string];
}

function toEndpoint(text: string, defaultPort: number): RedisEndpoint | undefined {
  const url = `http://${text}`;
  if (/[?#@\s]/.test(text) || !URL.canParse(url)) return undefined;
  const { hostname, port } = new URL(url);
  const given = port === '' && /:80$/.test(text) ? 80 : Number(port);
  return { host: hostname.replace(/^\[|\]$/g, ''), port: given === 0 ? defaultPort : given };
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
