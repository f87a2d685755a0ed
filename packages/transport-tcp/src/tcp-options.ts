import { invalidArgument, type Logger } from '@transfer-engine/core/transport';

/** Options of {@link tcp}. Times are in milliseconds, sizes in bytes. */
export interface TcpOptions {
  /**
   * Persistent connections to each v2 peer, 1..16. Default 2, or what MC_TCP_LANES_PER_PEER says.
   * v1 peers get twice as many at a time, one for each request.
   */
  readonly lanesPerPeer?: number;
  /** Requests in flight on one connection, 1..65536; rounded up to a power of two. Default 512. */
  readonly laneSlices?: number;
  /** Bytes in flight on one connection; a single larger slice still fits. Default 4 MiB. */
  readonly laneBytes?: number;
  /** Requests towards v2 peers are cut at this size. Default 1 MiB. */
  readonly sliceBytes?: number;
  /** Bound for making a connection. Default 5000. */
  readonly connectTimeoutMs?: number;
  /**
   * Bound for the status of a request that was sent completely. Default 30,000, or what
   * MC_TCP_STATUS_TIMEOUT_SEC says.
   */
  readonly statusTimeoutMs?: number;
  /** Bound for a connection with work on which no byte moves in either direction. Default 30,000. */
  readonly stallTimeoutMs?: number;
  /** How long a v1 WRITE waits for the peer to take the end of the stream. Default 2000. */
  readonly flushTimeoutMs?: number;
  /**
   * How long a connection that is given up waits for the peer's end of the stream, which proves that
   * the peer applies nothing more; for peers of framing v2. Default 500.
   */
  readonly retireTimeoutMs?: number;
  /** As target: bound for a request header that has begun. Default 10,000. */
  readonly headerTimeoutMs?: number;
  /** As target: bound for payload, in either direction, that stands still. Default 60,000. */
  readonly payloadTimeoutMs?: number;
  /** As target: how long a refused request is read on, so that the refusal arrives. Default 2000. */
  readonly discardTimeoutMs?: number;
  /** As target: connections at a time. Default 4096. */
  readonly maxSessions?: number;
  /**
   * Read straight into registered memory where the runtime can (default). False copies instead.
   */
  readonly directRead?: boolean;
}

/** Every option with its value. */
export type TcpSettings = Readonly<Required<TcpOptions>> & {
  /** Framing v1 towards every peer (MC_TCP_PROTO=1). */
  readonly forceV1: boolean;
};

const MIB = 1024 * 1024;

interface Row {
  readonly fallback: number;
  readonly min: number;
  readonly max: number;
}

const NUMBERS = {
  lanesPerPeer: { fallback: 2, min: 1, max: 16 },
  laneSlices: { fallback: 512, min: 1, max: 65_536 },
  laneBytes: { fallback: 4 * MIB, min: 1, max: 2 ** 40 },
  sliceBytes: { fallback: MIB, min: 4096, max: Number.MAX_SAFE_INTEGER },
  connectTimeoutMs: { fallback: 5000, min: 1, max: 2 ** 31 - 1 },
  statusTimeoutMs: { fallback: 30_000, min: 1, max: 2 ** 31 - 1 },
  stallTimeoutMs: { fallback: 30_000, min: 1, max: 2 ** 31 - 1 },
  flushTimeoutMs: { fallback: 2000, min: 1, max: 2 ** 31 - 1 },
  retireTimeoutMs: { fallback: 500, min: 1, max: 2 ** 31 - 1 },
  headerTimeoutMs: { fallback: 10_000, min: 1, max: 2 ** 31 - 1 },
  payloadTimeoutMs: { fallback: 60_000, min: 1, max: 2 ** 31 - 1 },
  discardTimeoutMs: { fallback: 2000, min: 1, max: 2 ** 31 - 1 },
  maxSessions: { fallback: 4096, min: 1, max: 1_000_000 },
} as const satisfies Record<string, Row>;

type NumberName = keyof typeof NUMBERS;

/**
 * Refuses wrong options before anything is made of them.
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT`
 */
export function checkOptions(options: TcpOptions): void {
  for (const name of Object.keys(NUMBERS) as NumberName[]) {
    const value = options[name];
    const { min, max } = NUMBERS[name];
    if (value !== undefined && (!Number.isSafeInteger(value) || value < min || value > max)) {
      throw invalidArgument(`tcp.${name}`, value, `an integer from ${min} to ${max}`);
    }
  }
  const direct: unknown = options.directRead;
  if (direct !== undefined && typeof direct !== 'boolean') {
    throw invalidArgument('tcp.directRead', direct, 'true or false');
  }
}

/** Options first, then the environment, then defaults. */
export function resolveSettings(
  options: TcpOptions,
  environment: Readonly<Record<string, string | undefined>>,
  logger: Logger,
): TcpSettings {
  const number = (name: NumberName) => options[name] ?? NUMBERS[name].fallback;
  const fromEnvironment = (variable: string, min: number, max: number): number | undefined => {
    const text = environment[variable];
    if (text === undefined || text === '') return undefined;
    const value = /^[0-9]{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    logger.warn({ variable, min, max }, `${variable} is not an integer in its range; ignored`);
    return undefined;
  };
  const lanes =
    fromEnvironment('MC_TCP_LANES_PER_PEER', 1, 16) ??
    fromEnvironment('MC_TCP_MAX_CONNECTIONS_PER_PEER', 1, 16);
  const statusSeconds = fromEnvironment('MC_TCP_STATUS_TIMEOUT_SEC', 1, 2_147_483);
  return {
    lanesPerPeer: options.lanesPerPeer ?? lanes ?? NUMBERS.lanesPerPeer.fallback,
    laneSlices: 2 ** Math.ceil(Math.log2(number('laneSlices'))),
    laneBytes: number('laneBytes'),
    sliceBytes: number('sliceBytes'),
    connectTimeoutMs: number('connectTimeoutMs'),
    statusTimeoutMs:
      options.statusTimeoutMs ??
      (statusSeconds === undefined ? NUMBERS.statusTimeoutMs.fallback : statusSeconds * 1000),
    stallTimeoutMs: number('stallTimeoutMs'),
    flushTimeoutMs: number('flushTimeoutMs'),
    retireTimeoutMs: number('retireTimeoutMs'),
    headerTimeoutMs: number('headerTimeoutMs'),
    payloadTimeoutMs: number('payloadTimeoutMs'),
    discardTimeoutMs: number('discardTimeoutMs'),
    maxSessions: number('maxSessions'),
    directRead: options.directRead ?? true,
    forceV1: environment['MC_TCP_PROTO'] === '1',
  };
}
