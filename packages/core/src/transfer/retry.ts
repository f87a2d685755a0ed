import { Outcome } from '../transport/outcome.ts';

export type RetryDecision =
  /** Send the slice again; `costsAttempt` is false when the slice was not the one to blame. */
  { readonly again: true; readonly costsAttempt: boolean } | { readonly again: false };

const REPLAY: RetryDecision = { again: true, costsAttempt: false };
const RETRY: RetryDecision = { again: true, costsAttempt: true };
const GIVE_UP: RetryDecision = { again: false };

/**
 * What follows when a transport ended a slice badly.
 *
 * @param attempts how often the slice was tried, this time included
 * @param quiescent false when bytes of the failed attempt may still arrive. Sending again would
 * let old and new bytes race, so such a slice is never retried.
 */
export function decideRetry(
  outcome: Outcome,
  attempts: number,
  attemptsMax: number,
  quiescent: boolean,
): RetryDecision {
  switch (outcome) {
    case Outcome.replay:
      return REPLAY;
    case Outcome.canceled:
      // Not asked for by the submission (that case never comes here): the route was closed.
      return quiescent ? REPLAY : GIVE_UP;
    case Outcome.peerLost:
    case Outcome.connectFailed:
      return quiescent && attempts < attemptsMax ? RETRY : GIVE_UP;
    case Outcome.ok:
    case Outcome.rejected:
    case Outcome.timeout:
    case Outcome.protocolError:
    case Outcome.localFault:
      return GIVE_UP;
  }
}

/** Pause of a route after its n-th failure in a row to connect, in milliseconds. */
export function routePauseMs(failuresInRow: number): number {
  return Math.min(10 * 4 ** (failuresInRow - 1), 2_000);
}
