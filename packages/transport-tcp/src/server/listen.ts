import type { AddressInfo, ListenOptions, Server } from 'node:net';
import { EngineError, type Random } from '@transfer-engine/core/transport';

export interface ListenPlan {
  /** Undefined: every interface, both families. */
  readonly bindHost: string | undefined;
  /** Undefined: the system chooses. */
  readonly portRange: { readonly min: number; readonly max: number } | undefined;
}

/** Any IPv6 address that also takes IPv4; and what is left where there is no IPv6. */
const ANY_HOSTS = ['::', '0.0.0.0'] as const;
const NO_SUCH_FAMILY = new Set(['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EINVAL']);

/**
 * Binds a server for good: a port that was found is never let go of in between.
 *
 * @returns the port
 * @throws EngineError `ERR_TE_PORT_UNAVAILABLE`
 */
export async function listen(server: Server, plan: ListenPlan, random: Random): Promise<number> {
  const hosts = plan.bindHost === undefined ? ANY_HOSTS : [plan.bindHost];
  const { min, max } = plan.portRange ?? { min: 0, max: 0 };
  const span = max - min + 1;
  const first = Math.floor(random.float() * span);
  let cause: unknown;
  let hostIndex = 0;
  for (let attempt = 0; attempt < span;) {
    const port = min + ((first + attempt) % span);
    const host = hosts[hostIndex] as string;
    try {
      return await bind(server, { host, port, exclusive: true });
    } catch (thrown) {
      cause = thrown;
      const code = codeOf(thrown);
      if (NO_SUCH_FAMILY.has(code) && hostIndex + 1 < hosts.length) hostIndex += 1;
      else if (code === 'EADDRINUSE' || code === 'EACCES') attempt += 1;
      else break;
    }
  }
  const where = plan.bindHost ?? 'any interface';
  const ports = plan.portRange === undefined ? 'a free port' : `a port from ${min} to ${max}`;
  throw new EngineError(
    'ERR_TE_PORT_UNAVAILABLE',
    `TCP data port: cannot listen on ${ports} of ${where} (${codeOf(cause)}); ` +
      'widen the port range or choose another bindHost',
    { cause, details: { host: where, minPort: min, maxPort: max } },
  );
}

function bind(server: Server, options: ListenOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error) => {
      server.removeListener('listening', onListening);
      reject(error);
    };
    const onListening = () => {
      server.removeListener('error', onError);
      resolve((server.address() as AddressInfo).port);
    };
    server.once('error', onError);
    server.once('listening', onListening);
    server.listen(options);
  });
}

function codeOf(thrown: unknown): string {
  return thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'unknown error';
}
