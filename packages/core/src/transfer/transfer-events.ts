import type { Outcome } from '../transport/outcome.ts';
import type { Route } from '../transport/transport.ts';
import type { RetryStep } from './retry.ts';
import type { Submission } from './submission.ts';

/**
 * What the machine tells about itself. Called on the path that it tells of, so implementations must
 * be quick and must not call the machine.
 */
export interface TransferEvents {
  submitted(submission: Submission): void;
  settled(submission: Submission): void;
  /** A slice ended badly and this follows from it. */
  sliceFailed(
    submission: Submission,
    route: Route,
    outcome: Outcome,
    step: RetryStep,
    row: number,
  ): void;
  /** Work moved on to another transport. */
  failover(submission: Submission, from: Route, to: Route): void;
  /** A route is left alone for `pauseMs`, or is tried again. */
  routePaused(route: Route, pauseMs: number): void;
  routeResumed(route: Route): void;
}
