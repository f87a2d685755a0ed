import type { Server } from 'node:net';
import { EngineError } from '../base/errors.ts';
import type { Random } from '../base/random.ts';

/** Inclusive, as `MC_MIN_RPC_PORT` and `MC_MAX_RPC_PORT`. */
export interface PortRange {
  readonly min: number;
  readonly max: number;
}

export type PortChoice = number | PortRange;

export interface BindRequest {
  create(): Server;
  /** Undefined: every interface, both families. */
  readonly bindHost: string | undefined;
  readonly port: PortChoice;
  readonly backlog: number;
  readonly random: Random;
  /** For messages: "control port". */
  readonly purpose: string;
}

/** Codes that say that this kind of address does not exist here. */
const NO_FAMILY = new Set(['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EINVAL', 'EPROTONOSUPPORT']);
/** Codes after which another port of a range is worth a try. */
const PORT_TAKEN = new Set(['EADDRINUSE', 'EACCES']);

/**
 * Listens where it was asked to. The port is bound and kept: nothing is probed and bound again.
 *
 * In a range every port is tried once, in an order that starts at random, so that engines which
 * start together rarely meet.
 *
 * @throws EngineError `ERR_TE_PORT_UNAVAILABLE`
 */
export async function bindPort(request: BindRequest): Promise<Server> {
  const { port } = request;
  if (typeof port === 'number') return await bindHosts(request, port);
  const count = port.max - port.min + 1;
  let last: unknown;
  for (const offset of scattered(count, request.random)) {
    try {
      return await bindHosts(request, port.min + offset);
    } catch (error) {
      if (!PORT_TAKEN.has(systemCode(error))) throw error;
      last = error;
    }
  }
  const { purpose, bindHost = 'any address' } = request;
  throw new EngineError(
    'ERR_TE_PORT_UNAVAILABLE',
    `none of the ${count} ports ${port.min} to ${port.max} is free for the ${purpose} on ` +
      `${bindHost}; widen MC_MIN_RPC_PORT and MC_MAX_RPC_PORT, or leave them out`,
    { cause: last, details: { minPort: port.min, maxPort: port.max, host: bindHost } },
  );
}

async function bindHosts(request: BindRequest, port: number): Promise<Server> {
  const { bindHost } = request;
  if (bindHost !== undefined) return await bindOnce(request, bindHost, port);
  try {
    return await bindOnce(request, '::', port);
  } catch (error) {
    // A system without IPv6 has no "::".
    if (!NO_FAMILY.has(systemCode(error))) throw error;
    return await bindOnce(request, '0.0.0.0', port);
  }
}

function bindOnce(request: BindRequest, host: string, port: number): Promise<Server> {
  const server = request.create();
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        new EngineError(
          'ERR_TE_PORT_UNAVAILABLE',
          `cannot listen on ${host} port ${port} for the ${request.purpose} (${cause.message}); ` +
            'choose another port, or 0 to let the system choose',
          { cause, details: { host, port } },
        ),
      ),
    );
    server.listen({ host, port, backlog: request.backlog, ipv6Only: false }, () => {
      server.removeAllListeners('error');
      resolve(server);
    });
  });
}

/** Every integer of [0, count) once: a random start and a random step that shares no divisor. */
function* scattered(count: number, random: Random): Generator<number> {
  let step = 1 + Math.floor(random.float() * count);
  while (greatestCommonDivisor(step, count) !== 1) step += 1;
  let at = Math.floor(random.float() * count);
  for (let tried = 0; tried < count; tried += 1) {
    yield at;
    at = (at + step) % count;
  }
}

function greatestCommonDivisor(a: number, b: number): number {
  while (b !== 0) [a, b] = [b, a % b];
  return a;
}

function systemCode(error: unknown): string {
  const cause = error instanceof EngineError ? error.cause : error;
  return cause instanceof Error && 'code' in cause ? String(cause.code) : '';
}
