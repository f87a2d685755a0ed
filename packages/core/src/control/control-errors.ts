import { EngineError } from '../base/errors.ts';
import { FrameType } from '../wire/handshake-frame.ts';

/** Why no connection came about. A name with several addresses fails with one error for each. */
export function connectionError(host: string, peer: string, error: Error): EngineError {
  if ('syscall' in error && error.syscall === 'getaddrinfo')
    return new EngineError(
      'ERR_TE_DNS',
      `the host name "${host}" cannot be resolved (${error.message}); check the name of the peer`,
      { cause: error, details: { host, peer } },
    );
  const reasons = error instanceof AggregateError ? error.errors.map(messageOf) : [error.message];
  return new EngineError(
    'ERR_TE_CONNECT_FAILED',
    `no connection to the engine at ${peer} (${reasons.join('; ')}); check that it runs and that ` +
      'this is the address of its control port',
    { cause: error, details: { peer } },
  );
}

/** The connection stood and ended before the answer was complete. */
export function peerLost(
  peer: string,
  type: FrameType,
  receivedBytes: number,
  cause: Error | undefined,
): EngineError {
  const how = cause === undefined ? 'closed the connection' : `is lost (${cause.message})`;
  const hint =
    type === FrameType.probe && receivedBytes === 0 && cause === undefined
      ? '; engines before v0.3.11 answer no probes'
      : '';
  return new EngineError(
    'ERR_TE_PEER_LOST',
    `the engine at ${peer} ${how} after ${receivedBytes} bytes of its answer${hint}`,
    { ...(cause !== undefined && { cause }), details: { peer, receivedBytes } },
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
