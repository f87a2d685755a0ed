import { DeadlineWheel } from '../base/deadline-wheel.ts';
import type { EngineError } from '../base/errors.ts';
import { invariant } from '../base/invariant.ts';
import { Outcome, type Aftermath } from '../transport/outcome.ts';
import { Opcode, Slice, type SliceRun } from '../transport/slice.ts';
import type { CompletionSink, Route } from '../transport/transport.ts';
import { RouteState, type PeerQueue } from './peer-queue.ts';
import { standardRetryPolicy, type RetryPolicy, type RetryStep } from './retry.ts';
import { toAftermath } from './row-damage.ts';
import { SubmissionRun } from './submission-run.ts';
import type { RetrySlice, Submission } from './submission.ts';
import { sliceError, stalledError, timeoutError } from './transfer-errors.ts';
import type { TransferEvents } from './transfer-events.ts';

/** Runs kept for reuse. */
const SPARE_RUNS_MAX = 256;
/** How long slices that are being served may still end by themselves after a deadline. */
const DEADLINE_GRACE_MS = 50;
/** The same after a cancellation that the user asked for. */
export const CANCEL_GRACE_MS = 1_000;

export interface TransferMachineDeps {
  nowMs(): number;
  /** Asks for a call of {@link TransferMachine.pump} soon, outside of the current call. */
  wake(): void;
  /** A slice is tried at most this often. */
  readonly attemptsMax: number;
  /** Bytes in flight towards one peer. Default: no bound but what routes take. */
  readonly inFlightBytesMax?: number;
  readonly retryPolicy?: RetryPolicy;
  readonly events?: TransferEvents;
}

export interface TransferCounters {
  bytesRead: number;
  bytesWritten: number;
  tasksCompleted: number;
  tasksFailed: number;
  tasksActive: number;
  slicesInFlight: number;
  retries: number;
}

/**
 * Decides what is posted where and when, and what follows from each outcome.
 *
 * The machine has no sockets, timers or clock of its own: time comes in by {@link pump}, routes
 * and the wake-up are injected. `post` of a route is the only thing it calls to move bytes.
 */
export class TransferMachine implements CompletionSink {
  readonly counters: TransferCounters = {
    bytesRead: 0,
    bytesWritten: 0,
    tasksCompleted: 0,
    tasksFailed: 0,
    tasksActive: 0,
    slicesInFlight: 0,
    retries: 0,
  };
  readonly #deps: TransferMachineDeps;
  readonly #wheel: DeadlineWheel;
  readonly #routes = new Map<Route, { state: RouteState; peer: PeerQueue }>();
  readonly #spareRuns: SubmissionRun[] = [];
  readonly #next = new Slice();
  /** Found by {@link TransferMachine.#pickRoute}: would come before the route that it picked. */
  #better: Route | undefined;
  #dirty: PeerQueue[] = [];
  #settled: Submission[] = [];
  #givenUp: { submission: Submission; reason: EngineError }[] = [];

  constructor(deps: TransferMachineDeps) {
    this.#deps = deps;
    this.#wheel = new DeadlineWheel(deps.nowMs());
  }

  /** When `pump` has to be called at the latest, in the clock's milliseconds. */
  nextDeadlineMs(): number | undefined {
    return this.#wheel.nextMs();
  }

  /** Gives a peer its routes, in the order of preference. Routes it had before must be closed by the caller. */
  setRoutes(peer: PeerQueue, routes: readonly Route[]): void {
    for (const { route } of peer.routes) this.#forgetRoute(route);
    peer.routes = routes.map((route) => {
      const state = new RouteState(route, () => this.#touch(peer));
      this.#routes.set(route, { state, peer });
      return state;
    });
    this.#touch(peer);
  }

  removePeer(peer: PeerQueue): void {
    this.setRoutes(peer, []);
  }

  /**
   * Starts a submission whose rows are prepared.
   *
   * @param deadlineMs in the clock's milliseconds
   */
  submit(submission: Submission, nowMs: number, deadlineMs: number): void {
    const { peer } = submission;
    submission.startedMs = nowMs;
    submission.deadlineMs = deadlineMs;
    submission.onCheck = this.#check;
    peer.begin(submission);
    this.counters.tasksActive += submission.columns.count;
    for (const region of submission.regions) {
      region.pin();
      region.ownTransfers += 1;
    }
    this.#deps.events?.submitted(submission);
    if (submission.rowsLeft === 0) {
      this.#settle(submission);
      return;
    }
    this.#wheel.add(submission, Math.min(deadlineMs, nowMs + submission.stallMs));
    peer.enqueue(submission, nowMs);
    this.#touch(peer);
  }

  /**
   * Ends a submission early: what was not posted ends now, what is in flight ends when its route
   * says so, which is bounded by `graceMs`.
   */
  end(submission: Submission, error: EngineError, graceMs: number): void {
    if (submission.settled || submission.ending !== undefined) return;
    submission.ending = error;
    this.#wheel.remove(submission);
    submission.dropUnposted();
    // A copy: a route may settle slices while it is being asked.
    for (const run of [...submission.runs]) run.route?.route.cancel(run, graceMs);
    this.#settleIfDone(submission);
  }

  /** Expires deadlines, posts what can be posted and reports what has settled. */
  pump(nowMs: number): void {
    this.#wheel.advance(nowMs);
    while (this.#dirty.length > 0 || this.#settled.length > 0 || this.#givenUp.length > 0) {
      const givenUp = this.#givenUp;
      this.#givenUp = [];
      for (const { submission, reason } of givenUp) {
        this.end(submission, reason, DEADLINE_GRACE_MS);
      }
      const peers = this.#dirty;
      this.#dirty = [];
      for (const peer of peers) {
        peer.dirty = false;
        this.#pumpPeer(peer, nowMs);
      }
      this.#reportSettled(nowMs);
    }
  }

  complete(
    run: SliceRun,
    count: number,
    outcome: Outcome,
    error?: EngineError,
    given?: boolean | Aftermath,
  ): void {
    invariant(run instanceof SubmissionRun, 'an outcome belongs to a run of this machine');
    invariant(run.left >= count, 'a run gets no more outcomes than slices were taken');
    const submission = run.submission as Submission;
    const route = run.route as RouteState;
    route.full = false;
    route.slicesInFlight -= count;
    this.counters.slicesInFlight -= count;
    if (outcome === Outcome.ok) {
      this.#completeOk(run, submission, route, count);
    } else {
      const aftermath = toAftermath(given);
      for (let index = 0; index < count; index += 1) {
        this.#completeBadly(run, submission, route, outcome, error, aftermath);
      }
      this.#afterFailure(route, submission.peer, outcome, error);
    }
    if (run.left === 0) this.#dropRun(run, submission);
    this.#settleIfDone(submission);
    this.#touch(submission.peer);
  }

  progress(run: SliceRun): void {
    if (run instanceof SubmissionRun && run.submission !== undefined)
      run.submission.progressed = true;
  }

  ready(route: Route): void {
    const known = this.#routes.get(route);
    if (known === undefined) return;
    known.state.full = false;
    this.#touch(known.peer);
  }

  #completeOk(run: SubmissionRun, submission: Submission, route: RouteState, count: number): void {
    const { peer } = submission;
    let bytes = 0;
    let written = 0;
    for (let index = 0; index < count; index += 1) {
      const row = run.doneRow;
      const length = run.doneLength;
      bytes += length;
      if (submission.opcodeOf(row) === Opcode.write) written += length;
      submission.sliceDone(row, run.donePart, length);
      run.stepDone(length);
    }
    this.counters.bytesWritten += written;
    this.counters.bytesRead += bytes - written;
    peer.inFlightBytes -= bytes;
    peer.budget.earn(count);
    submission.progressed = true;
    submission.usedTransport = route.route.transport.name;
    if (run.retry !== undefined) {
      submission.attempts = Math.max(submission.attempts, run.retry.attempts);
    }
    if (written > 0 && route.route.writeDurability === 'sent') submission.durability = 'sent';
    if (route.health.state !== 'open') {
      route.health.succeed();
      this.#deps.events?.routeResumed(route.route);
    }
  }

  #completeBadly(
    run: SubmissionRun,
    submission: Submission,
    route: RouteState,
    outcome: Outcome,
    error: EngineError | undefined,
    latest: Aftermath,
  ): void {
    const { peer } = submission;
    const row = run.doneRow;
    const part = run.donePart;
    const length = run.doneLength;
    const attempts = run.retry?.attempts ?? 1;
    // An attempt that touched nothing does not undo what an earlier one did.
    const aftermath =
      latest.destination === 'untouched' && run.retry !== undefined ? run.retry.aftermath : latest;
    run.stepDone(length);
    peer.inFlightBytes -= length;
    submission.attempts = Math.max(submission.attempts, attempts);
    if (submission.ending !== undefined) {
      submission.sliceFailed(row, part, length, submission.ending, aftermath);
      return;
    }
    // A refusal is a sign of life like any other answer.
    if (outcome === Outcome.rejected && route.health.state !== 'open') route.health.succeed();
    const { retryPolicy = standardRetryPolicy, attemptsMax, events } = this.#deps;
    const quiescent = aftermath.destination !== 'unknown';
    let step = retryPolicy({ outcome, attempts, attemptsMax, quiescent });
    const budgetSpent = step !== 'giveUp' && step !== 'replay' && !peer.budget.spend();
    if (budgetSpent || submission.isDoomed(row)) step = 'giveUp';
    events?.sliceFailed(submission, route.route, outcome, step, row);
    if (step !== 'giveUp') {
      const retry: RetrySlice = run.retry ?? {
        row,
        part,
        length,
        attempts,
        aftermath,
        avoid: undefined,
      };
      this.#retry(submission, retry, step, route, aftermath);
      return;
    }
    const reason = sliceError(outcome, error, attempts, budgetSpent);
    submission.sliceFailed(row, part, length, reason, aftermath);
    // The peer is gone as far as anybody can tell: the rest would only fail one by one.
    if (outcome === Outcome.peerLost) this.#givenUp.push({ submission, reason });
    if (outcome === Outcome.connectFailed) this.#giveUpPeer(peer, route, reason);
  }

  /**
   * Ends what waits for a peer that cannot be connected to, and has no other way to go.
   *
   * The next pump does it: a route is in the middle of reporting, and must not be asked now.
   */
  #giveUpPeer(peer: PeerQueue, route: RouteState, reason: EngineError): void {
    for (const submission of peer.active) {
      if (!this.#hasOtherRoute(submission, route)) this.#givenUp.push({ submission, reason });
    }
  }

  #retry(
    submission: Submission,
    retry: RetrySlice,
    step: RetryStep,
    route: RouteState,
    aftermath: Aftermath,
  ): void {
    if (step !== 'replay') {
      retry.attempts += 1;
      this.counters.retries += 1;
    }
    retry.avoid = step === 'transport' ? route : undefined;
    if (aftermath.destination !== 'untouched') retry.aftermath = aftermath;
    submission.retries ??= [];
    // A slice that failed goes first: its attempts tell soonest that the peer is gone.
    if (step === 'replay') submission.retries.push(retry);
    else submission.retries.unshift(retry);
    submission.peer.enqueue(submission, submission.waitingSinceMs);
  }

  /** Whether a submission can go on over another transport than the one that failed. */
  #hasOtherRoute(submission: Submission, failed: RouteState): boolean {
    return submission.peer.routes.some(
      (state) => state !== failed && state.health.state === 'open' && isAllowed(submission, state),
    );
  }

  #afterFailure(
    route: RouteState,
    peer: PeerQueue,
    outcome: Outcome,
    error: EngineError | undefined,
  ): void {
    if (outcome === Outcome.connectFailed && route.health.state !== 'paused') {
      const nowMs = this.#deps.nowMs();
      const pauseMs = route.health.fail(nowMs);
      this.#wheel.add(route, nowMs + pauseMs);
      this.#deps.events?.routePaused(route.route, pauseMs);
      const { failuresInRow } = route.health;
      if (failuresInRow >= this.#deps.attemptsMax) {
        this.#giveUpPeer(peer, route, sliceError(outcome, error, failuresInRow, false));
      }
    }
    if (
      outcome === Outcome.connectFailed ||
      outcome === Outcome.peerLost ||
      outcome === Outcome.protocolError
    ) {
      peer.onTrouble?.();
    }
  }

  /** Deadline and stall, whichever comes first. */
  readonly #check = (submission: Submission, nowMs: number): void => {
    if (nowMs >= submission.deadlineMs) {
      const waitedMs = submission.deadlineMs - submission.startedMs;
      this.end(submission, timeoutError(submission, waitedMs), DEADLINE_GRACE_MS);
      return;
    }
    if (!submission.progressed && submission.runs.length > 0) {
      this.end(submission, stalledError(submission), DEADLINE_GRACE_MS);
      return;
    }
    submission.progressed = false;
    this.#wheel.add(submission, Math.min(submission.deadlineMs, nowMs + submission.stallMs));
  };

  #pumpPeer(peer: PeerQueue, nowMs: number): void {
    // Submissions that cannot go on now (their route is full or paused) are put back in order.
    let stuck: Submission[] | undefined;
    while (peer.hasOpenRoute) {
      const submission = peer.dequeue(nowMs);
      if (submission === undefined) break;
      if (submission.settled) continue;
      const progress = this.#postOnce(peer, submission);
      if (!this.#hasWork(submission)) continue;
      if (progress) peer.enqueue(submission, nowMs);
      else (stuck ??= []).push(submission);
    }
    if (stuck !== undefined) for (const submission of stuck) peer.putBack(submission);
  }

  #hasWork(submission: Submission): boolean {
    return submission.ending === undefined && (submission.hasRetries || submission.hasUnposted);
  }

  /** Posts one run of a submission; false when no route takes anything now. */
  #postOnce(peer: PeerQueue, submission: Submission): boolean {
    if (!this.#hasWork(submission)) return false;
    const retry = submission.retries?.[0];
    const route = this.#pickRoute(peer, submission, retry);
    if (route === undefined) {
      this.#settleIfDone(submission);
      return false;
    }
    const run = this.#spareRuns.pop() ?? new SubmissionRun();
    const slicesMax = route.health.state === 'open' ? Number.POSITIVE_INFINITY : 1;
    const { inFlightBytesMax = Number.POSITIVE_INFINITY } = this.#deps;
    run.begin(submission, route, retry, slicesMax, inFlightBytesMax - peer.inFlightBytes);
    run.better = this.#better;
    const taken = route.route.post(run);
    invariant(taken === run.left, 'a route returns how many slices it took');
    if (!run.exhausted) route.full = true;
    const { outOfCredit, takenBytes } = run;
    if (taken === 0) {
      run.end();
      this.#keepRun(run);
      if (outOfCredit || route.full) return false;
      // Nothing left to take: the rest of the rows was dropped on the way.
      this.#settleIfDone(submission);
      return true;
    }
    if (retry !== undefined) {
      submission.retries?.shift();
      if (retry.avoid !== undefined && retry.avoid !== route) {
        this.#deps.events?.failover(submission, retry.avoid.route, route.route);
      }
    }
    run.index = submission.runs.length;
    submission.runs.push(run);
    submission.progressed = true;
    peer.inFlightBytes += takenBytes;
    route.slicesInFlight += taken;
    this.counters.slicesInFlight += taken;
    return true;
  }

  /**
   * The first transport that is well and reaches the next slice. One that is full is waited for: the next one is slower, and
   * is for when this one is ill.
   */
  #pickRoute(
    peer: PeerQueue,
    submission: Submission,
    retry: RetrySlice | undefined,
  ): RouteState | undefined {
    let fallback: RouteState | undefined;
    let unable: RouteState | undefined;
    let ableRoutes = 0;
    this.#better = undefined;
    const hasNext = this.#describeNext(peer, submission, retry);
    for (const state of peer.routes) {
      if (!isAllowed(submission, state)) continue;
      if (hasNext && state.route.reaches?.(this.#next) === false) {
        unable ??= state;
        if (ableRoutes === 0 && state.open) this.#better ??= state.route;
        continue;
      }
      ableRoutes += 1;
      if (state.health.state !== 'open' && !state.open) continue;
      if (retry?.avoid !== state) return state.open ? state : fallback;
      if (state.open) fallback = state;
    }
    // Nobody can carry the slice: the route that would come first says why.
    return ableRoutes === 0 && unable?.open === true ? unable : fallback;
  }

  /** Describes what is posted next, if a route wants to see it beforehand. */
  #describeNext(
    { routes }: PeerQueue,
    submission: Submission,
    retry: RetrySlice | undefined,
  ): boolean {
    if (!routes.some(({ route }) => route.reaches !== undefined)) return false;
    if (retry !== undefined) {
      submission.describe(retry.row, retry.part, retry.length, this.#next);
      return true;
    }
    if (!submission.findNext(true)) return false;
    const { cursorRow: row, cursorPart: part } = submission;
    submission.describe(row, part, submission.sliceLengthAt(row, part), this.#next);
    return true;
  }

  #dropRun(run: SubmissionRun, submission: Submission): void {
    const last = submission.runs.pop() as SubmissionRun;
    if (last !== run) {
      submission.runs[run.index] = last;
      last.index = run.index;
    }
    run.end();
    this.#keepRun(run);
  }

  #keepRun(run: SubmissionRun): void {
    if (this.#spareRuns.length < SPARE_RUNS_MAX) this.#spareRuns.push(run);
  }

  #settleIfDone(submission: Submission): void {
    if (submission.rowsLeft === 0 && submission.runs.length === 0 && !submission.settled) {
      this.#settle(submission);
    }
  }

  #settle(submission: Submission): void {
    submission.settled = true;
    submission.onCheck = undefined;
    this.#wheel.remove(submission);
    submission.peer.finish(submission);
    for (const region of submission.regions) {
      region.ownTransfers -= 1;
      region.unpin();
    }
    this.counters.tasksActive -= submission.columns.count;
    this.counters.tasksFailed += submission.rowsFailed;
    this.counters.tasksCompleted += submission.columns.count - submission.rowsFailed;
    this.#settled.push(submission);
    this.#deps.wake();
  }

  #reportSettled(nowMs: number): void {
    const settled = this.#settled;
    if (settled.length === 0) return;
    this.#settled = [];
    for (const submission of settled) {
      submission.settledMs = nowMs;
      this.#deps.events?.settled(submission);
      submission.onSettled(submission);
    }
  }

  #touch(peer: PeerQueue): void {
    if (peer.dirty) return;
    peer.dirty = true;
    this.#dirty.push(peer);
    this.#deps.wake();
  }

  #forgetRoute(route: Route): void {
    const known = this.#routes.get(route);
    if (known === undefined) return;
    this.#routes.delete(route);
    this.#wheel.remove(known.state);
  }
}

/** Whether the route can carry the submission as it was asked for. */
function isAllowed(submission: Submission, { route }: RouteState): boolean {
  const { transportName } = submission;
  if (transportName !== undefined && route.transport.name !== transportName) return false;
  return !submission.checksum || route.checksums === true;
}
