/** What a bench does over and over. */
export interface Workload {
  readonly op: 'write' | 'read' | 'mix';
  /** Bytes of a request. */
  readonly block: number;
  /** Requests of a batch. */
  readonly batch: number;
  /** Batches in flight. */
  readonly depth: number;
  /** Connections; the transport's own default when absent. */
  readonly lanes: number | undefined;
}

/** Bytes that a bare connection has in flight at most; more than that gains nothing. */
export const IN_FLIGHT_MAX = 4 << 20;

/** Memory that the requests in flight cover on each side: none shares a byte with another. */
export function footprint(workload: Workload): number {
  return workload.block * workload.batch * workload.depth;
}
