/** Cancels what {@link Clock.schedule} planned; calling it again, or late, does nothing. */
export type CancelTimer = () => void;

/** Time as the product sees it. Everything that the simulation runs takes its time from here. */
export interface Clock {
  /** Milliseconds that only grow; the origin has no meaning. */
  nowMs(): number;
  /** Milliseconds since 1970, for timestamps in documents. Default: the system's. */
  dateMs?(): number;
  /** Calls `callback` once, at least `delayMs` from now. Does not keep the process alive by itself. */
  schedule(delayMs: number, callback: () => void): CancelTimer;
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  schedule(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(Math.max(delayMs, 0), 0x7fffffff));
    timer.unref();
    return () => clearTimeout(timer);
  },
};
