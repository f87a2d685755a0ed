import { invariant } from '../base/invariant.ts';
import type { Slice, SliceRun } from '../transport/slice.ts';
import type { Route } from '../transport/transport.ts';
import type { RouteState } from './peer-queue.ts';
import type { RetrySlice, Submission } from './submission.ts';

/** A run offers at most this much, so that submissions which wait for the same route take turns. */
const RUN_BYTES_MAX = 4 * 1024 * 1024;
const RUN_SLICES_MAX = 256;

/**
 * Consecutive slices of one submission that one call of `post` hands to a route.
 *
 * The run remembers where it started and replays the same steps when outcomes come in, so nothing
 * has to be stored for a slice.
 */
export class SubmissionRun implements SliceRun {
  submission: Submission | undefined;
  route: RouteState | undefined;
  /** Set when the run is one slice that is sent again. */
  retry: RetrySlice | undefined;
  /** A route that comes before this one, but does not reach the first slice. */
  better: Route | undefined;
  /** Slices taken that have no outcome yet. */
  left = 0;
  /** Place in `submission.runs`. */
  index = -1;
  /** True when the last `peek` found nothing more: the route was not the limit. */
  exhausted = false;
  /** True when the run ended because the peer has enough in flight. */
  outOfCredit = false;
  #slicesMax = RUN_SLICES_MAX;
  #creditBytes = Number.POSITIVE_INFINITY;
  #taken = 0;
  #takenBytes = 0;
  #nextLength = 0;
  /** First slice without outcome. */
  #row = 0;
  #part = 0;

  /**
   * @param slicesMax offers at most this many slices
   * @param creditBytes offers no slice that is longer than what is left of these, but for a first
   * one towards a peer that has nothing in flight
   */
  begin(
    submission: Submission,
    route: RouteState,
    retry: RetrySlice | undefined,
    slicesMax: number,
    creditBytes: number,
  ): void {
    this.submission = submission;
    this.route = route;
    this.retry = retry;
    this.left = 0;
    this.exhausted = false;
    this.outOfCredit = false;
    this.#slicesMax = Math.min(slicesMax, RUN_SLICES_MAX);
    this.#creditBytes = creditBytes;
    this.#taken = 0;
    this.#takenBytes = 0;
  }

  end(): void {
    this.submission = undefined;
    this.route = undefined;
    this.retry = undefined;
    this.better = undefined;
    this.index = -1;
  }

  get takenBytes(): number {
    return this.#takenBytes;
  }

  peek(into: Slice): boolean {
    const submission = this.submission as Submission;
    const { retry } = this;
    if (this.#taken >= this.#slicesMax || this.#takenBytes >= RUN_BYTES_MAX) return this.#end();
    if (retry !== undefined) {
      if (this.#taken > 0) return this.#end();
      if (!this.#inCredit(retry.length)) return this.#endForCredit();
      this.#nextLength = retry.length;
      submission.describe(retry.row, retry.part, retry.length, into);
      into.attempt = retry.attempts - 1;
      return true;
    }
    if (!submission.findNext(this.#taken === 0)) return this.#end();
    const row = submission.cursorRow;
    const part = submission.cursorPart;
    const length = submission.sliceLengthAt(row, part);
    if (!this.#inCredit(length)) return this.#endForCredit();
    this.#nextLength = length;
    submission.describe(row, part, length, into);
    into.attempt = 0;
    // The first slice was shown to the routes before the run began.
    if (this.#taken > 0 && !this.#isOurs(into)) return this.#end();
    return true;
  }

  /** Whether the slice goes the same way as the first one: reached by this route, and by no better. */
  #isOurs(slice: Slice): boolean {
    if (this.route?.route.reaches?.(slice) === false) return false;
    return this.better?.reaches?.(slice) !== true;
  }

  #inCredit(length: number): boolean {
    if (length <= this.#creditBytes - this.#takenBytes) return true;
    return this.#takenBytes === 0 && (this.submission as Submission).peer.inFlightBytes === 0;
  }

  #end(): false {
    this.exhausted = true;
    return false;
  }

  #endForCredit(): false {
    this.outOfCredit = true;
    return this.#end();
  }

  take(): void {
    const submission = this.submission as Submission;
    if (this.#taken === 0) {
      this.#row = this.retry?.row ?? submission.cursorRow;
      this.#part = this.retry?.part ?? submission.cursorPart;
    }
    this.#taken += 1;
    this.#takenBytes += this.#nextLength;
    this.left += 1;
    if (this.retry === undefined) submission.advance(this.#nextLength);
  }

  /** Row of the next slice to get an outcome. */
  get doneRow(): number {
    return this.#row;
  }

  get donePart(): number {
    return this.#part;
  }

  get doneLength(): number {
    if (this.retry !== undefined) return this.retry.length;
    return (this.submission as Submission).sliceLengthAt(this.#row, this.#part);
  }

  /** Steps over the slice that got its outcome. */
  stepDone(length: number): void {
    invariant(this.left > 0, 'a run gets no more outcomes than slices were taken');
    this.left -= 1;
    if (this.left === 0) return;
    const lengths = (this.submission as Submission).columns.length;
    this.#part += length;
    if (this.#part < (lengths[this.#row] as number)) return;
    this.#part = 0;
    do this.#row += 1;
    while (lengths[this.#row] === 0);
  }
}
