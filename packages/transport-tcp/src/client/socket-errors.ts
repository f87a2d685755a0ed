import type { Fault, FaultWriter } from '../session/fault.ts';

/** What a socket error says, also when it stands for several attempts. */
export function reasonOf(thrown: unknown): string {
  if (thrown instanceof AggregateError) return thrown.errors.map(reasonOf).join('; ');
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** Whether the peer's system said that the connection is over there. */
export function isPeerReset(error: Error | undefined): boolean {
  const code = codeOf(error);
  return code === 'ECONNRESET' || code === 'EPIPE';
}

/** The fault of a connection that was never made. */
export function connectFault(faults: FaultWriter, error: Error | undefined): Fault {
  if (error === undefined)
    return faults.connectFailed('ERR_TE_CONNECT_FAILED', 'the socket closed');
  const dns = 'syscall' in error && error.syscall === 'getaddrinfo';
  return faults.connectFailed(dns ? 'ERR_TE_DNS' : 'ERR_TE_CONNECT_FAILED', reasonOf(error), error);
}

function codeOf(error: Error | undefined): unknown {
  return error !== undefined && 'code' in error ? error.code : undefined;
}
