import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';

/** Why a control connection was ended without the answer that it wanted. */
export type RejectionReason =
  /** Closed or cut off in the middle of a request. */
  | 'truncated'
  /** The request did not arrive in time. */
  | 'slow'
  /** A length of 0 or a byte that cannot start a message. */
  | 'malformed-frame'
  /** An announced length above the bound; HTTP and TLS look like this. */
  | 'too-large'
  | 'malformed-json'
  /** The message was well-formed and answered with a refusal. */
  | 'refused'
  /** The answer was not ready, or not taken, in time. */
  | 'reply-timeout'
  | 'too-many-connections'
  /** Requests being received need more memory together than they may have. */
  | 'out-of-memory-budget'
  | 'internal';

const LOG_INTERVAL_MS = 1_000;

/** Counts every rejection and logs one of each kind a second, with the number left out between. */
export class RejectionLog {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #counts = new Map<RejectionReason, number>();
  readonly #lastLogged = new Map<RejectionReason, { atMs: number; count: number }>();

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  get total(): number {
    let total = 0;
    for (const count of this.#counts.values()) total += count;
    return total;
  }

  counts(): Readonly<Partial<Record<RejectionReason, number>>> {
    return Object.fromEntries(this.#counts);
  }

  add(reason: RejectionReason, fields: object, error?: Error): void {
    const count = (this.#counts.get(reason) ?? 0) + 1;
    this.#counts.set(reason, count);
    const nowMs = this.#clock.nowMs();
    const last = this.#lastLogged.get(reason);
    if (last !== undefined && nowMs - last.atMs < LOG_INTERVAL_MS) return;
    this.#lastLogged.set(reason, { atMs: nowMs, count });
    const suppressed = count - (last?.count ?? 0) - 1;
    this.#logger.warn(
      {
        reason,
        count,
        ...(suppressed > 0 && { suppressed }),
        ...(error && { err: error }),
        ...fields,
      },
      'control connection rejected',
    );
  }
}
