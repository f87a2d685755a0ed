import { networkInterfaces } from 'node:os';
import { isIPv6 } from 'node:net';
import { invalidArgument } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { EngineLimits, EngineOptions } from './engine-api.ts';
import { parseServerName } from '../wire/index.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Ports a name without a port means. Source: Mooncake 3b5a594, common.h. */
const HANDSHAKE_PORT = 12001;
/** More than C++'s 128: many clients that connect at once would wait for a second. */
const BACKLOG = 1024;
const FRAME_BYTES_MIN = 1024 * 1024;
const FRAME_BYTES_MAX = 128 * 1024 * 1024;
/** The range that systems use for outgoing connections by default; never listened on by request. */
const EPHEMERAL = { min: 32768, max: 60999 };

const DEFAULT_LIMITS: EngineLimits = {
  transferTimeoutMs: 120_000,
  stallTimeoutMs: 30_000,
  inFlightBytesPerPeer: 64 * 1024 * 1024,
  pendingBytesPerPeer: 256 * 1024 * 1024,
  connectTimeoutMs: 5_000,
  controlTimeoutMs: 10_000,
  controlFrameBytes: FRAME_BYTES_MIN,
  inboxNotifications: 65_536,
  sliceBytes: 1024 * 1024,
  attempts: 4,
  regions: 1_048_576,
};

export interface EngineConfig {
  readonly peerToPeer: boolean;
  /** Name as given, for stores; in P2P mode the name follows from host and port. */
  readonly name: string;
  readonly host: string;
  readonly bindHost: string | undefined;
  /** 0: the system, or the range, decides. */
  readonly rpcPort: number;
  readonly portRange: { readonly min: number; readonly max: number } | undefined;
  readonly defaultPort: number;
  /** Connections that the system holds for the control port before they are accepted. */
  readonly backlog: number;
  readonly clusterId: string;
  readonly limits: EngineLimits;
  readonly strict: boolean;
  /** Milliseconds between refreshes of open segments; 0 for none. */
  readonly refreshIntervalMs: number;
}

/** Reads options and MC_* variables; nothing else in core looks at the environment. */
export function readConfig(
  options: EngineOptions,
  environment: Environment,
  logger: Logger,
): EngineConfig {
  const variables = new Variables(environment, logger);
  const peerToPeer = options.metadata === undefined || options.metadata === 'P2PHANDSHAKE';
  const defaultPort = variables.integer('MC_HANDSHAKE_PORT', HANDSHAKE_PORT, 1, 65_535);
  const limits = readLimits(options.limits, variables);
  const given = options.name ?? '127.0.0.1';
  if (typeof given !== 'string' || given === '')
    throw invalidArgument('name', given, 'a text that is not empty');
  const parsed = parseServerName(given, defaultPort);
  const portOfName =
    parsed.explicitPort && (peerToPeer || environment['MC_LEGACY_RPC_PORT_BINDING'] !== undefined)
      ? parsed.port
      : 0;
  const rpcPort = options.rpcPort ?? portOfName;
  if (!Number.isInteger(rpcPort) || rpcPort < 0 || rpcPort > 65_535) {
    throw invalidArgument('rpcPort', rpcPort, 'an integer from 0 to 65535');
  }
  const host = peerToPeer ? parsed.host : advertisedHost(options, environment, parsed.host);
  return {
    peerToPeer,
    name: given,
    host,
    bindHost: options.bindHost ?? (isLoopback(host) ? loopbackAddress(host) : undefined),
    rpcPort,
    portRange: readPortRange(variables),
    defaultPort,
    backlog: variables.integer('MC_HANDSHAKE_LISTEN_BACKLOG', BACKLOG, 1, 65_535),
    clusterId: options.clusterId ?? environment['MC_METADATA_CLUSTER_ID'] ?? '',
    limits,
    strict: options.strict ?? false,
    refreshIntervalMs:
      variables.integer('MC_TE_METADATA_REFRESH_INTERVAL_SECONDS', 0, 0, 86_400) * 1000,
  };
}

function readLimits(given: EngineOptions['limits'], variables: Variables): EngineLimits {
  const retries = variables.integer('MC_RETRY_CNT', DEFAULT_LIMITS.attempts - 1, 1, 127);
  const limits = {
    ...DEFAULT_LIMITS,
    attempts: retries + 1,
    connectTimeoutMs: variables.integer('MC_HANDSHAKE_CONNECT_TIMEOUT', 5, 1, 3599) * 1000,
    controlFrameBytes: variables.integer(
      'MC_HANDSHAKE_MAX_LENGTH',
      FRAME_BYTES_MIN,
      FRAME_BYTES_MIN,
      FRAME_BYTES_MAX,
    ),
    ...given,
  };
  for (const [name, value] of Object.entries(limits)) {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) {
      throw invalidArgument(`limits.${name}`, value, 'a positive integer');
    }
  }
  return limits;
}

/** Unset means: let the system choose. Bounds as the C++ engine checks them. */
function readPortRange(variables: Variables): EngineConfig['portRange'] {
  const min = variables.first(['MC_MIN_RPC_PORT', 'MC_MIN_PRC_PORT']);
  const max = variables.first(['MC_MAX_RPC_PORT', 'MC_MAX_PRC_PORT']);
  if (min === undefined && max === undefined) return undefined;
  const range = { min: Number(min ?? 15_000), max: Number(max ?? 17_000) };
  const allowed = (port: number) =>
    Number.isInteger(port) &&
    port >= 1024 &&
    port <= 65_535 &&
    (port < EPHEMERAL.min || port > EPHEMERAL.max);
  if (allowed(range.min) && allowed(range.max) && range.min <= range.max) return range;
  variables.warn('MC_MIN_RPC_PORT..MC_MAX_RPC_PORT', `${min}..${max}`, '15000..17000');
  return { min: 15_000, max: 17_000 };
}

function advertisedHost(
  options: EngineOptions,
  environment: Environment,
  nameHost: string,
): string {
  if (options.host !== undefined) {
    if (options.host === '')
      throw invalidArgument('host', options.host, 'a host name or an address');
    return options.host;
  }
  if (environment['MC_LEGACY_RPC_PORT_BINDING'] !== undefined) return nameHost;
  const bound = environment['MC_TCP_BIND_ADDRESS'];
  if (bound !== undefined && bound !== '') return bound;
  return firstAddress(environment['MC_USE_IPV6'] !== undefined) ?? '127.0.0.1';
}

/** The first address of an interface that is up and not the loopback; IPv4 unless told otherwise. */
function firstAddress(preferIpv6: boolean): string | undefined {
  const all = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter((address) => !address.internal && !address.address.startsWith('fe80:'));
  const wanted = preferIpv6 ? 'IPv6' : 'IPv4';
  return (all.find(({ family }) => family === wanted) ?? all[0])?.address;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

function loopbackAddress(host: string): string {
  if (isIPv6(host)) return '::1';
  return host === 'localhost' ? '127.0.0.1' : host;
}

/** Environment variables with C++'s habit: an invalid value keeps the default and warns. */
class Variables {
  readonly #environment: Environment;
  readonly #logger: Logger;

  constructor(environment: Environment, logger: Logger) {
    this.#environment = environment;
    this.#logger = logger;
  }

  first(names: readonly string[]): string | undefined {
    return names.map((name) => this.#environment[name]).find((value) => value !== undefined);
  }

  integer(name: string, fallback: number, min: number, max: number): number {
    const text = this.#environment[name];
    if (text === undefined) return fallback;
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    this.warn(name, text, `${fallback} (accepted: ${min} to ${max})`);
    return fallback;
  }

  warn(name: string, value: string, used: string): void {
    this.#logger.warn(
      { variable: name, value, used },
      `${name}=${value} is not valid; using ${used}`,
    );
  }
}
