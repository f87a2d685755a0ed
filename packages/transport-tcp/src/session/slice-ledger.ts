import {
  Outcome,
  type Aftermath,
  type EngineError,
  type Slice,
  type SliceRun,
} from '@transfer-engine/core/transport';
import { REPLAY, type Fault, type FaultSubject, type FaultWriter } from './fault.ts';
import { SliceRing, SliceState } from './slice-ring.ts';

/** Where the ends of slices are reported. */
export type Report = (
  run: SliceRun,
  count: number,
  outcome: Outcome,
  error: EngineError | undefined,
  /** Undefined for what ended well. */
  aftermath: Aftermath | undefined,
) => void;

const UNTOUCHED: Aftermath = { destination: 'untouched' };
const QUIESCENT: Aftermath = { destination: 'quiescent' };
const UNKNOWN: Aftermath = { destination: 'unknown' };
/** All bytes were applied, and they are not those that were to be. */
const GARBAGE: Aftermath = { destination: 'quiescent', appliedBytes: 0 };

/** What a peer of our own kind tells of a connection that it has ended. */
export interface PeerFacts {
  /** Number of the first request that is not finished; modulo 2^16. */
  readonly id: number;
  /** Requests that went well, since the connection began; modulo 2^32. */
  readonly value: number;
  /** That first request is a WRITE whose payload was coming in. */
  readonly inProgress: boolean;
  readonly appliedBytes: number;
}

export interface LedgerLimits {
  /** Slices that may be owned at a time; a power of two. */
  readonly slices: number;
  /** Bytes of the slices that may be owned at a time; a single slice may be larger. */
  readonly bytes: number;
}

/**
 * What one connection owes to core: which slices it took, how far each has come, and the report
 * of each one's end, exactly once and in order.
 *
 * Four sequence numbers cut the ring into its states:
 *
 *     head <= { answered, written } <= sending <= tail
 *
 * Slices before `head` are reported. Those before `answered` have their answer (and payload);
 * those before `written` are no longer referred to by the socket; those before `sending` were
 * handed to it completely. A slice ends well when it is both answered and written.
 */
export class SliceLedger {
  readonly ring: SliceRing;
  readonly #limits: LedgerLimits;
  readonly #faults: FaultWriter;
  #head = 0;
  #answered = 0;
  #written = 0;
  #sending = 0;
  #tail = 0;
  /** `sending` at the end of the group that is under way. */
  #groupEnd = 0;
  /** Some of the slice at `sending` was handed over. */
  #begun = false;
  #bytes = 0;
  #answers = 0;
  /** Answers other than ok. */
  #failures = 0;
  /** Slices of which something was handed over. */
  #begunCount = 0;
  /** The READ that the end of the connection cut, and what came of it. */
  #reading = -1;
  #readAftermath = UNTOUCHED;
  /** Slices before this one are finished at the peer; -1 when it did not say. */
  #finishedEnd = -1;
  /** None of those that are not answered was refused or corrupt. */
  #finishedWell = false;
  /** What came of the slice at `#finishedEnd`. */
  #cutAftermath = UNTOUCHED;
  /** Slices that failed on our side before they were sent, or by their answer. */
  readonly #ownFaults = new Map<number, Fault>();
  /** The peer does nothing more for this connection, so its memory is at rest. */
  peerEnded = false;
  /** The peer refused the slice that is awaited: it has touched nothing for this and all behind. */
  refused = false;
  /** Slices with checksum cannot be sent again to this peer. */
  uncheckable = false;

  constructor(limits: LedgerLimits, faults: FaultWriter) {
    this.ring = new SliceRing(limits.slices);
    this.#limits = limits;
    this.#faults = faults;
  }

  /** Slices that are owned, also those whose end waits for its turn to be reported. */
  get outstanding(): number {
    return this.#tail - this.#head;
  }

  get outstandingBytes(): number {
    return this.#bytes;
  }

  /** How many answers came so far. */
  get answers(): number {
    return this.#answers;
  }

  /** How many slices were begun so far. */
  get begunCount(): number {
    return this.#begunCount;
  }

  /** Whether the peer may still apply bytes of a slice. */
  get mayChange(): boolean {
    if (this.peerEnded || this.refused) return false;
    for (let seq = this.#answered; this.#isBegun(seq); seq += 1) {
      if (!this.ring.isRead(seq) && this.ring.state(seq) <= SliceState.unwanted) return true;
    }
    return false;
  }

  /** Whether everything that was accepted has been written. */
  get allWritten(): boolean {
    return this.#written === this.#tail;
  }

  /** Whether the answer that is awaited belongs to a slice that was written completely. */
  get answerDue(): boolean {
    return this.#answered < this.#written;
  }

  fits(length: number): boolean {
    if (this.#tail - this.#head >= this.#limits.slices) return false;
    return this.#bytes === 0 || this.#bytes + length <= this.#limits.bytes;
  }

  accept(run: SliceRun, slice: Slice): void {
    this.ring.put(this.#tail, run, slice);
    this.#tail += 1;
    this.#bytes += slice.length;
  }

  /** Whether slices of `run` are owned and not reported. */
  owns(run: SliceRun): boolean {
    for (let seq = this.#head; seq < this.#tail; seq += 1) {
      if (this.ring.state(seq) !== SliceState.reported && this.ring.run(seq) === run) return true;
    }
    return false;
  }

  // ---- sending

  /** The slice to be sent next, or the one that is being sent; -1 when there is none. */
  get next(): number {
    while (this.#sending < this.#tail && this.ring.state(this.#sending) >= SliceState.dropped) {
      this.#sending += 1;
    }
    return this.#sending < this.#tail ? this.#sending : -1;
  }

  /** Whether some of the slice at {@link next} was handed over. */
  get begun(): boolean {
    return this.#begun;
  }

  begin(): void {
    this.#begun = true;
    this.#begunCount += 1;
  }

  /** All of the slice at {@link next} was handed over. */
  sent(): void {
    this.#begun = false;
    this.#sending += 1;
  }

  /** The slice at {@link next} fails before a byte of it is sent. */
  drop(fault: Fault): void {
    this.ring.setState(this.#sending, SliceState.dropped);
    this.#ownFaults.set(this.#sending, fault);
    this.#sending += 1;
  }

  /** What was handed over so far will be written together. */
  closeGroup(): void {
    this.#groupEnd = this.#sending;
  }

  /** The socket no longer refers to the memory of the group. */
  written(): void {
    this.#written = Math.max(this.#written, this.#groupEnd);
  }

  // ---- answers

  /** The slice whose answer comes next; -1 when none is owed. */
  get awaited(): number {
    this.#skipUnsent();
    return this.#isBegun(this.#answered) ? this.#answered : -1;
  }

  /** The slice that an end of the connection would hit; -1 when there is none. */
  get exposed(): number {
    this.#skipUnsent();
    return this.#answered < this.#tail ? this.#answered : -1;
  }

  answer(): void {
    this.#answered += 1;
    this.#answers += 1;
  }

  /** The slice that is awaited has its answer, and it is bad. The connection goes on. */
  fail(fault: Fault): void {
    this.ring.setState(this.#answered, SliceState.failed);
    this.#ownFaults.set(this.#answered, fault);
    this.#failures += 1;
    this.answer();
  }

  /**
   * Takes over what the peer tells of the connection, which it has ended.
   *
   * @returns false when it cannot be true of what was sent
   */
  takeFacts(facts: PeerFacts): boolean {
    this.#skipUnsent();
    const finished = (facts.id - 1 - this.#answers) & 0xffff;
    let seq = this.#answered;
    for (let count = 0; count < finished; seq += 1) {
      if (!this.#isBegun(seq)) return false;
      if (this.ring.state(seq) < SliceState.dropped) count += 1;
    }
    while (seq < this.#sending && this.ring.state(seq) >= SliceState.dropped) seq += 1;
    if (facts.inProgress) {
      const isWrite = this.#isBegun(seq) && !this.ring.isRead(seq);
      if (!isWrite || !(facts.appliedBytes <= this.ring.length(seq))) return false;
      this.#cutAftermath = { destination: 'quiescent', appliedBytes: facts.appliedBytes };
    }
    this.#finishedEnd = seq;
    this.#finishedWell = (this.#answers - this.#failures + finished) >>> 0 === facts.value;
    this.peerEnded = true;
    return true;
  }

  /** What errors say about a slice. */
  subject(seq: number, bytesDone = 0): FaultSubject {
    const { ring } = this;
    return {
      isRead: ring.isRead(seq),
      length: ring.length(seq),
      addressLow: ring.addressLow(seq),
      addressHigh: ring.addressHigh(seq),
      bytesDone,
    };
  }

  // ---- ends

  /**
   * Reports what has ended, in order.
   *
   * @returns whether places became free although nothing was reported
   */
  settle(report: Report): boolean {
    let reported = false;
    let freed = false;
    for (;;) {
      this.#skipUnsent();
      const seq = this.#head;
      if (seq === this.#tail) break;
      const state = this.ring.state(seq);
      if (state === SliceState.reported) {
        this.#pop();
        freed = true;
        continue;
      }
      const run = this.ring.run(seq);
      if (state === SliceState.dropped) {
        const fault = this.#ownFaults.get(seq) ?? this.#faults.canceled();
        this.#ownFaults.delete(seq);
        this.#pop();
        report(run, 1, fault.outcome, fault.error, UNTOUCHED);
      } else {
        if (seq >= this.#answered || seq >= this.#written) break;
        if (state === SliceState.failed) this.#reportFailed(seq, report);
        else this.#reportWell(run, report);
      }
      reported = true;
    }
    if (this.#head === this.#tail) this.#rewind();
    return freed && !reported;
  }

  #reportFailed(seq: number, report: Report): void {
    const run = this.ring.run(seq);
    const { outcome, error } = this.#ownFaults.get(seq) as Fault;
    this.#ownFaults.delete(seq);
    this.#pop();
    report(run, 1, outcome, error, outcome === Outcome.corrupt ? GARBAGE : UNTOUCHED);
  }

  #reportWell(run: SliceRun, report: Report): void {
    let count = 0;
    do {
      this.#pop();
      count += 1;
    } while (this.#endsWell(this.#head) && this.ring.run(this.#head) === run);
    report(run, count, Outcome.ok, undefined, undefined);
  }

  /**
   * Marks the slices of `run` as unwanted. Those of which nothing was sent end at once, in order.
   *
   * @returns whether slices of the run are still being served
   */
  cancel(run: SliceRun, report: Report): boolean {
    let serving = false;
    /** A slice of the run that comes earlier has not been reported yet. */
    let waits = false;
    let count = 0;
    for (let seq = this.#head; seq < this.#tail; seq += 1) {
      const state = this.ring.state(seq);
      if (state === SliceState.reported || this.ring.run(seq) !== run) continue;
      if (this.#isBegun(seq) && state !== SliceState.dropped) {
        if (state === SliceState.live) this.ring.setState(seq, SliceState.unwanted);
        serving = true;
        waits = true;
      } else if (waits || state === SliceState.dropped) {
        this.ring.setState(seq, SliceState.dropped);
        waits = true;
      } else {
        this.ring.setState(seq, SliceState.reported);
        this.#bytes -= this.ring.length(seq);
        count += 1;
      }
    }
    if (count > 0) {
      const { outcome, error } = this.#faults.canceled();
      report(run, count, outcome, error, UNTOUCHED);
    }
    return serving;
  }

  /** Whether slices of `run` that core does not want any more are still being served. */
  servesUnwanted(run: SliceRun): boolean {
    for (let seq = this.#head; seq < this.#tail; seq += 1) {
      const state = this.ring.state(seq);
      const unwanted = state === SliceState.unwanted || state === SliceState.failed;
      if (unwanted && this.ring.run(seq) === run) return true;
    }
    return false;
  }

  /**
   * Reports everything that is left; the connection is gone and refers to no memory any more.
   *
   * @param cause hits the slice that was being served; the others are to be replayed
   * @param everybody true when `cause` hits all slices alike
   * @param payloadDone bytes that are in place of the READ whose answer was coming in
   */
  finish(report: Report, cause: Fault, everybody: boolean, payloadDone: number): void {
    this.#reading = payloadDone > 0 ? this.awaited : -1;
    this.#readAftermath = { destination: 'quiescent', appliedBytes: payloadDone };
    // What was answered and handed over has also left: the socket is closed.
    this.#written = this.#sending;
    this.settle(report);
    let blame: Fault | undefined = cause;
    while (this.#head < this.#tail) {
      const seq = this.#head;
      const state = this.ring.state(seq);
      if (state === SliceState.reported) {
        this.#pop();
        continue;
      }
      if (state === SliceState.failed || this.#isProvedOk(seq)) {
        if (state === SliceState.failed) {
          this.#reportFailed(seq, report);
        } else {
          const run = this.ring.run(seq);
          this.#pop();
          report(run, 1, Outcome.ok, undefined, undefined);
        }
        // What the blame was for went another way.
        blame = undefined;
        continue;
      }
      const fault = this.#endOf(seq, state, everybody ? cause : (blame ?? REPLAY));
      if (!everybody) blame = undefined;
      this.#reportAlike(seq, fault, report, everybody);
    }
    this.#rewind();
  }

  /** Reports the slice and those behind it in its run that end in the same way. */
  #reportAlike(first: number, fault: Fault, report: Report, everybody: boolean): void {
    const run = this.ring.run(first);
    const aftermath = this.#aftermath(first);
    const live = this.ring.state(first) === SliceState.live;
    const alike = live
      ? (everybody && !this.uncheckable) || fault === REPLAY
      : fault.outcome === Outcome.canceled;
    let count = 0;
    let seq = first;
    do {
      this.#pop();
      count += 1;
      seq += 1;
    } while (
      alike &&
      seq < this.#tail &&
      this.ring.state(seq) !== SliceState.reported &&
      (this.ring.state(seq) === SliceState.live) === live &&
      !this.#ownFaults.has(seq) &&
      !(this.uncheckable && this.ring.isChecked(seq)) &&
      !this.#isProvedOk(seq) &&
      this.ring.run(seq) === run &&
      this.#aftermath(seq) === aftermath
    );
    report(run, count, fault.outcome, fault.error, aftermath);
  }

  #endOf(seq: number, state: SliceState, fault: Fault): Fault {
    if (state === SliceState.live) {
      if (fault !== REPLAY) return fault;
      if (this.uncheckable && this.ring.isChecked(seq)) {
        return this.#faults.unchecked(this.subject(seq));
      }
      // What may still arrive must not be sent again.
      return this.#aftermath(seq) === UNKNOWN ? this.#faults.unproved(this.subject(seq)) : fault;
    }
    const local = this.#ownFaults.get(seq);
    if (local !== undefined) return local;
    // A refusal says more than the wish to end it.
    return fault.outcome === Outcome.rejected ? fault : this.#faults.canceled();
  }

  /** What is known about the destination of a slice that did not end well. */
  #aftermath(seq: number): Aftermath {
    if (seq === this.#reading) return this.#readAftermath;
    // The destination of a READ is ours; of a WRITE, the peer's, which may not have seen all yet.
    if (this.refused || this.ring.isRead(seq) || !this.#isBegun(seq)) return UNTOUCHED;
    if (this.#finishedEnd >= 0) {
      if (seq < this.#finishedEnd) return QUIESCENT;
      return seq === this.#finishedEnd ? this.#cutAftermath : UNTOUCHED;
    }
    return this.peerEnded ? QUIESCENT : UNKNOWN;
  }

  /** Served according to the peer, though its answer is lost. */
  #isProvedOk(seq: number): boolean {
    return (
      this.#finishedWell &&
      seq < this.#finishedEnd &&
      !this.ring.isRead(seq) &&
      this.ring.state(seq) <= SliceState.unwanted
    );
  }

  #isBegun(seq: number): boolean {
    return seq < this.#sending || (seq === this.#sending && this.#begun);
  }

  #endsWell(seq: number): boolean {
    return (
      seq < this.#answered && seq < this.#written && this.ring.state(seq) <= SliceState.unwanted
    );
  }

  /** Answers are never owed for slices that were not sent. */
  #skipUnsent(): void {
    while (
      this.#answered < this.#sending &&
      this.ring.state(this.#answered) >= SliceState.dropped
    ) {
      this.#answered += 1;
    }
  }

  #pop(): void {
    const seq = this.#head;
    if (this.ring.state(seq) !== SliceState.reported) this.#bytes -= this.ring.length(seq);
    this.ring.clear(seq);
    this.#head += 1;
    // A slice that was dropped at the front was passed by nobody yet.
    if (this.#sending < this.#head) {
      this.#sending = this.#head;
      this.#begun = false;
    }
    if (this.#answered < this.#head) this.#answered = this.#head;
    if (this.#written < this.#head) this.#written = this.#head;
  }

  /** Keeps sequence numbers small while nothing is owned. */
  #rewind(): void {
    if (this.#head !== this.#tail || this.#groupEnd > this.#written) return;
    this.#head = this.#answered = this.#written = this.#sending = this.#tail = 0;
    this.#groupEnd = 0;
  }
}
