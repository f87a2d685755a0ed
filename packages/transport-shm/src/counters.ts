/** What a transport counts for `engine.stats()`. */
export interface ShmCounters {
  slices: number;
  bytes: number;
  rejected: number;
  /** Slices that were handed back because the peer changed what it offers while they were moved. */
  replayed: number;
  failures: number;
}

export function newCounters(): ShmCounters {
  return { slices: 0, bytes: 0, rejected: 0, replayed: 0, failures: 0 };
}
