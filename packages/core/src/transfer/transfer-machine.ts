import { DeadlineWheel } from '../base/deadline-wheel.ts';
import { EngineError } from '../base/errors.ts';
import { invariant } from '../base/invariant.ts';
import { Outcome, OUTCOME_NAMES } from '../transport/outcome.ts';
import { Opcode, type SliceRun } from '../transport/slice.ts';
import type { CompletionSink, Route } from '../transport/transport.ts';
import { RouteState, type PeerQueue } from './peer-queue.ts';
import { decideRetry } from './retry.ts';
import { SubmissionRun } from './submission-run.ts';
import type { PriorityClass, RetrySlice, Submission } from './submission.ts';

const PRIORITIES: readonly PriorityClass[] = [0, 1, 2];
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
    submission.startedMs = nowMs;
    submission.onDeadline = () => {
      const waitedMs = Math.round(deadlineMs - nowMs);
      this.end(submission, this.#timeoutError(submission, waitedMs), DEADLINE_GRACE_MS);
    };
    submission.peer.active.add(submission);
    this.counters.tasksActive += submission.columns.count;
    for (const region of submission.regions) {
      region.pin();
      region.ownTransfers += 1;
    }
    if (submission.rowsLeft === 0) {
      this.#settle(submission);
      return;
    }
    this.#wheel.add(submission, deadlineMs);
    submission.peer.enqueue(submission);
    this.#touch(submission.peer);
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
        this.#pumpPeer(peer);
      }
      this.#reportSettled(nowMs);
    }
  }

  complete(
    run: SliceRun,
    count: number,
    outcome: Outcome,
    error?: EngineError,
    quiescent = true,
  ): void {
    invariant(run instanceof SubmissionRun, 'an outcome belongs to a run of this machine');
    invariant(run.left >= count, 'a run gets no more outcomes than slices were taken');
    const submission = run.submission as Submission;
    const route = run.route as RouteState;
    route.full = false;
    route.slicesInFlight -= count;
    this.counters.slicesInFlight -= count;
    if (outcome === Outcome.ok) {
      route.failures = 0;
      this.#completeOk(run, submission, route, count);
    } else {
      for (let index = 0; index < count; index += 1) {
        this.#completeBadly(run, submission, route, outcome, error, quiescent);
      }
      this.#afterFailure(route, submission.peer, outcome);
    }
    if (run.left === 0) this.#dropRun(run, submission);
    this.#settleIfDone(submission);
    this.#touch(submission.peer);
  }

  ready(route: Route): void {
    const known = this.#routes.get(route);
    if (known === undefined) return;
    known.state.full = false;
    this.#touch(known.peer);
  }

  #completeOk(run: SubmissionRun, submission: Submission, route: RouteState, count: number): void {
    let bytes = 0;
    let written = 0;
    for (let index = 0; index < count; index += 1) {
      const row = run.doneRow;
      const length = run.doneLength;
      bytes += length;
      if (submission.opcodeOf(row) === Opcode.write) written += length;
      submission.sliceDone(row, length);
      run.stepDone(length);
    }
    this.counters.bytesWritten += written;
    this.counters.bytesRead += bytes - written;
    submission.usedTransport = route.route.transport.name;
    if (run.retry !== undefined) {
      submission.attempts = Math.max(submission.attempts, run.retry.attempts);
    }
    if (written > 0 && route.route.writeDurability === 'sent') submission.durability = 'sent';
  }

  #completeBadly(
    run: SubmissionRun,
    submission: Submission,
    route: RouteState,
    outcome: Outcome,
    error: EngineError | undefined,
    quiescent: boolean,
  ): void {
    const row = run.doneRow;
    const part = run.donePart;
    const length = run.doneLength;
    const attempts = run.retry?.attempts ?? 1;
    run.stepDone(length);
    submission.attempts = Math.max(submission.attempts, attempts);
    if (submission.ending !== undefined) {
      submission.sliceFailed(row, this.#endingError(submission, row, length, quiescent));
      return;
    }
    const decision = decideRetry(outcome, attempts, this.#deps.attemptsMax, quiescent);
    if (decision.again && !submission.isDoomed(row)) {
      const next = decision.costsAttempt ? attempts + 1 : attempts;
      if (decision.costsAttempt) this.counters.retries += 1;
      const routeIndex = submission.peer.routes.indexOf(route);
      const retry: RetrySlice = run.retry ?? { row, part, length, attempts, routeIndex };
      retry.attempts = next;
      retry.routeIndex = routeIndex;
      (submission.retries ??= []).push(retry);
      submission.peer.enqueue(submission);
      return;
    }
    const reason = this.#sliceError(submission, row, length, attempts, outcome, error, quiescent);
    submission.sliceFailed(row, reason);
    if (outcome === Outcome.connectFailed || outcome === Outcome.peerLost) {
      // The peer is gone as far as anybody can tell: the rest would only fail one by one.
      // Ended by the next pump: a route is in the middle of reporting, and must not be asked now.
      this.#givenUp.push({ submission, reason });
    }
  }

  #afterFailure(route: RouteState, peer: PeerQueue, outcome: Outcome): void {
    if (outcome === Outcome.connectFailed) {
      if (!route.paused) this.#wheel.add(route, this.#deps.nowMs() + route.fail());
      peer.onTrouble?.();
    } else if (outcome === Outcome.peerLost || outcome === Outcome.protocolError) {
      peer.onTrouble?.();
    }
  }

  #pumpPeer(peer: PeerQueue): void {
    for (const priority of PRIORITIES) {
      const queue = peer.waiting[priority];
      // Submissions that cannot go on now (their route is full or paused) are put back in order.
      let stuck: Submission[] | undefined;
      while (queue.length > 0 && peer.hasOpenRoute) {
        const submission = peer.dequeue(priority) as Submission;
        if (submission.settled) continue;
        const progress = this.#postOnce(peer, submission);
        if (!this.#hasWork(submission)) continue;
        if (progress) peer.enqueue(submission);
        else (stuck ??= []).push(submission);
      }
      if (stuck !== undefined) for (const submission of stuck) peer.enqueue(submission);
    }
  }

  #hasWork(submission: Submission): boolean {
    return submission.ending === undefined && (submission.hasRetries || submission.hasUnposted);
  }

  /** Posts one run of a submission; false when no route takes anything now. */
  #postOnce(peer: PeerQueue, submission: Submission): boolean {
    if (!this.#hasWork(submission)) return false;
    const retry = submission.retries?.[0];
    const route = this.#pickRoute(peer, submission, retry);
    if (route === undefined) return false;
    const run = this.#spareRuns.pop() ?? new SubmissionRun();
    run.begin(submission, route, retry);
    const taken = route.route.post(run);
    invariant(taken === run.left, 'a route returns how many slices it took');
    if (!run.exhausted) route.full = true;
    if (taken === 0) {
      run.end();
      this.#keepRun(run);
      // Nothing left to take: the rest of the rows was dropped on the way.
      if (!route.full) this.#settleIfDone(submission);
      return !route.full;
    }
    if (retry !== undefined) submission.retries?.shift();
    run.index = submission.runs.length;
    submission.runs.push(run);
    route.slicesInFlight += taken;
    this.counters.slicesInFlight += taken;
    return true;
  }

  #pickRoute(
    peer: PeerQueue,
    submission: Submission,
    retry: RetrySlice | undefined,
  ): RouteState | undefined {
    const { routes } = peer;
    let fallback: RouteState | undefined;
    for (let index = 0; index < routes.length; index += 1) {
      const state = routes[index] as RouteState;
      if (!state.open) continue;
      if (
        submission.transportName !== undefined &&
        state.route.transport.name !== submission.transportName
      ) {
        continue;
      }
      if (retry === undefined || retry.attempts === 1 || retry.routeIndex !== index) return state;
      fallback ??= state;
    }
    return fallback;
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
    this.#wheel.remove(submission);
    submission.peer.active.delete(submission);
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

  #timeoutError(submission: Submission, waitedMs: number): EngineError {
    return new EngineError(
      'ERR_TE_TIMEOUT',
      `the transfer to "${submission.peer.name}" did not end within ${waitedMs} ms; ${submission.bytes} bytes ` +
        'were moved. Raise timeoutMs, or check the peer with probe()',
      { details: { peer: submission.peer.name, timeoutMs: waitedMs, bytesDone: submission.bytes } },
    );
  }

  /** The error for a slice that was in flight when its submission was ended. */
  #endingError(
    submission: Submission,
    row: number,
    length: number,
    quiescent: boolean,
  ): EngineError {
    const error = submission.ending as EngineError;
    if (quiescent) return error;
    const address = submission.addressOf(row);
    return new EngineError(
      error.code,
      `${withoutCode(error)}; up to ${length} bytes may still change at 0x${address.toString(16)} ` +
        `of "${submission.peer.name}"`,
      { details: { ...error.details, destination: 'unknown', address, length }, cause: error },
    );
  }

  #sliceError(
    submission: Submission,
    row: number,
    length: number,
    attempts: number,
    outcome: Outcome,
    cause: EngineError | undefined,
    quiescent: boolean,
  ): EngineError {
    const address = submission.addressOf(row);
    const bytesDone = submission.bytesOf(row);
    const opcode = submission.opcodeOf(row) === Opcode.write ? 'WRITE' : 'READ';
    const code = cause?.code ?? 'ERR_TE_INTERNAL';
    const reason = cause === undefined ? OUTCOME_NAMES[outcome] : withoutCode(cause);
    return new EngineError(
      code,
      `${opcode} of ${submission.columns.length[row]} bytes at 0x${address.toString(16)} of ` +
        `"${submission.peer.name}" failed after ${bytesDone} bytes and ${attempts} ` +
        `attempt${attempts === 1 ? '' : 's'}: ${reason}` +
        (quiescent ? '' : `; up to ${length} bytes of the destination may still change`),
      {
        details: {
          ...cause?.details,
          peer: submission.peer.name,
          address,
          length: submission.columns.length[row],
          bytesDone,
          attempts,
          destination: quiescent ? 'quiescent' : 'unknown',
        },
        cause,
      },
    );
  }
}

function withoutCode(error: EngineError): string {
  return error.message.startsWith(`${error.code}: `)
    ? error.message.slice(error.code.length + 2)
    : error.message;
}
