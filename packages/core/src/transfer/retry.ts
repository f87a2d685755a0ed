import { Outcome } from '../transport/outcome.ts';

/**
 * What to do with a slice that ended badly.
 *
 * - `replay`: the slice was not to blame; send it again, on whatever is there. Costs nothing.
 * - `lane`: send it again over the same transport, which takes another connection.
 * - `rail`: send it again over the same transport and another path, if it has one.
 * - `transport`: send it again over the next transport that reaches the peer, if there is one.
 * - `giveUp`: the slice failed for good.
 */
export type RetryStep = 'replay' | 'lane' | 'rail' | 'transport' | 'giveUp';

export interface AttemptFacts {
  readonly outcome: Outcome;
  /** How often the slice was tried, the failed time included. */
  readonly attempts: number;
  readonly attemptsMax: number;
  /** False when bytes of the failed attempt may still arrive at the destination. */
  readonly quiescent: boolean;
}

/** Decides what follows from a failed attempt. Must be pure: it is called for every failed slice. */
export type RetryPolicy = (facts: AttemptFacts) => RetryStep;

/**
 * Steps by outcome: the n-th failed attempt takes the n-th step, and the last step repeats.
 *
 * A peer that is lost is first asked again over a new connection, then over another transport. A
 * peer that cannot be connected to is worth another transport at once.
 */
const STEPS: Readonly<Record<Outcome, readonly RetryStep[]>> = {
  [Outcome.ok]: ['giveUp'],
  [Outcome.rejected]: ['giveUp'],
  [Outcome.replay]: ['replay'],
  [Outcome.peerLost]: ['lane', 'rail', 'transport'],
  [Outcome.connectFailed]: ['transport'],
  [Outcome.timeout]: ['giveUp'],
  [Outcome.protocolError]: ['giveUp'],
  // Not asked for by the submission (such outcomes do not come here): the route was closed.
  [Outcome.canceled]: ['replay'],
  [Outcome.localFault]: ['transport', 'giveUp'],
  [Outcome.corrupt]: ['lane', 'giveUp'],
};

export const standardRetryPolicy: RetryPolicy = ({ outcome, attempts, attemptsMax, quiescent }) => {
  // Old and new bytes would race for the destination.
  if (!quiescent) return 'giveUp';
  const steps = STEPS[outcome];
  const step = steps[Math.min(attempts, steps.length) - 1] ?? 'giveUp';
  if (step === 'replay') return step;
  return attempts < attemptsMax ? step : 'giveUp';
};

/** Retries that one peer may cost at once, and how many it earns back for a slice that went well. */
const BUDGET_MAX = 512;
const EARNED_PER_SLICE = 0.1;

/**
 * Bounds what a sick peer costs: a burst of retries is fine, retrying everything all the time is
 * not. Slices that go well earn new retries.
 */
export class RetryBudget {
  #left = BUDGET_MAX;

  earn(slices: number): void {
    if (this.#left < BUDGET_MAX)
      this.#left = Math.min(this.#left + slices * EARNED_PER_SLICE, BUDGET_MAX);
  }

  /** Takes one retry; false when there is none left. */
  spend(): boolean {
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
