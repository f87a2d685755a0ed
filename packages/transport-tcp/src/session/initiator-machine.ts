import {
  invariant,
  Opcode,
  Outcome,
  type EngineError,
  type Slice,
  type SliceRun,
} from '@transfer-engine/core/transport';
import { ACKNOWLEDGED, encodeSessionHeader, SESSION_HEADER_BYTES } from '../wire/session-header.ts';
import {
  decodeStatusFrame,
  STATUS_FRAME_BYTES,
  STATUS_MALFORMED,
  StatusCode,
} from '../wire/status-frame.ts';
import { REPLAY, type Fault, type FaultSubject, type FaultWriter } from './fault.ts';
import { FrameReader, type FrameOwner } from './frame-reader.ts';
import { windowOf } from './memory-window.ts';
import { SliceRing, SliceState } from './slice-ring.ts';
import { COPY_BYTES, type TransmitGroup } from './transmit-group.ts';

/** Where a machine reports the ends of slices. */
export type Report = (
  run: SliceRun,
  count: number,
  outcome: Outcome,
  error: EngineError | undefined,
  quiescent: boolean,
) => void;

export interface InitiatorLimits {
  /** 1: no answers to writes, no status frames. 2: every request is answered by a status frame. */
  readonly version: 1 | 2;
  /** Slices that may be owned at a time; a power of two. */
  readonly slices: number;
  /** Bytes of the slices that may be owned at a time; a single slice may be larger. */
  readonly bytes: number;
}

/**
 * The initiator's side of one data connection, without the connection.
 *
 * Slices are sent in the order in which they were accepted, without waiting for answers, and
 * answers come in the same order. Four sequence numbers cut the ring into its states:
 *
 *     head <= { answered, written } <= sending <= tail
 *
 * Slices before `head` are reported. Those before `answered` have their answer (and payload);
 * those before `written` are no longer referred to by the socket; those before `sending` were
 * handed to it completely. A slice ends well when it is both answered and written.
 */
export class InitiatorMachine implements FrameOwner {
  readonly #limits: InitiatorLimits;
  readonly #ring: SliceRing;
  readonly #reader: FrameReader;
  readonly #faults: FaultWriter;
  #head = 0;
  #answered = 0;
  #written = 0;
  #sending = 0;
  #tail = 0;
  /** `sending` at the end of the group that is under way. */
  #groupEnd = 0;
  /** Of the slice at `sending`: whether its header was handed over, and how much of its payload. */
  #headerSent = false;
  #bodySent = 0;
  #bytes = 0;
  #answers = 0;
  /** What ended the connection, if the machine itself had to; it hits the slice at `answered`. */
  #fault: Fault | undefined;
  /** Slices that failed on our side before they were sent. */
  #localFaults: Map<number, Fault> | undefined;
  /** The peer has ended the stream: it will not touch its memory for this connection any more. */
  peerEnded = false;

  constructor(limits: InitiatorLimits, scratch: Buffer, faults: FaultWriter) {
    this.#limits = limits;
    this.#ring = new SliceRing(limits.slices);
    this.#reader = new FrameReader(STATUS_FRAME_BYTES, scratch, this);
    this.#faults = faults;
  }

  /** Slices that are owned, also those whose end waits for its turn to be reported. */
  get outstanding(): number {
    return this.#tail - this.#head;
  }

  get outstandingBytes(): number {
    return this.#bytes;
  }

  /** Whether the peer owes an answer. */
  get waiting(): boolean {
    return this.#begun(this.#answered);
  }

  /** How many answers came so far. */
  get answers(): number {
    return this.#answers;
  }

  /** Whether the next unanswered slice was handed to the socket completely, and written. */
  get answerDue(): boolean {
    return this.#answered < this.#written && !this.#reader.inPayload;
  }

  /** Whether everything that was accepted has been written. */
  get allWritten(): boolean {
    return this.#written === this.#tail;
  }

  get hasWork(): boolean {
    return this.#sending < this.#tail && this.#fault === undefined;
  }

  /** Set when the connection has to end because of what came over it, or of local memory. */
  get fault(): Fault | undefined {
    return this.#fault;
  }

  /** The slice that an end of the connection would hit, for error messages. */
  get subject(): FaultSubject | undefined {
    this.#skipUnsent();
    return this.#answered < this.#tail ? this.#subject(this.#answered) : undefined;
  }

  fits(length: number): boolean {
    if (this.#tail - this.#head >= this.#limits.slices) return false;
    return this.#bytes === 0 || this.#bytes + length <= this.#limits.bytes;
  }

  accept(run: SliceRun, slice: Slice): void {
    this.#ring.put(this.#tail, run, slice);
    this.#tail += 1;
    this.#bytes += slice.length;
  }

  /** Whether slices of `run` are owned and not reported. */
  owns(run: SliceRun): boolean {
    for (let seq = this.#head; seq < this.#tail; seq += 1) {
      if (this.#ring.state(seq) !== SliceState.reported && this.#ring.run(seq) === run) return true;
    }
    return false;
  }

  // ---- sending

  /**
   * Fills a group with what is to be sent next. `transmitted` must be called when it was written,
   * and before the next group is filled.
   */
  transmit(group: TransmitGroup): void {
    while (this.hasWork) {
      const seq = this.#sending;
      if (this.#ring.state(seq) >= SliceState.dropped) {
        this.#sending += 1;
      } else {
        if (!this.#headerSent && !this.#transmitHeader(seq, group)) break;
        if (this.#sending !== seq) continue;
        if (!this.#ring.isRead(seq) && !this.#transmitBody(seq, group)) break;
        this.#headerSent = false;
        this.#sending += 1;
      }
    }
    group.seal();
    this.#groupEnd = this.#sending;
  }

  /** The group is written; the socket no longer refers to its memory. */
  transmitted(): void {
    this.#written = Math.max(this.#written, this.#groupEnd);
  }

  /** False when the group is full. A slice without local memory is dropped instead. */
  #transmitHeader(seq: number, group: TransmitGroup): boolean {
    const ring = this.#ring;
    if (windowOf(ring.store(seq), ring.offset(seq), ring.length(seq)) === undefined) {
      this.#drop(seq, this.#faults.memoryLost(this.#subject(seq)));
      this.#sending += 1;
      return true;
    }
    const at = group.reserve(SESSION_HEADER_BYTES);
    if (at < 0) return false;
    const opcode = ring.isRead(seq) ? Opcode.read : Opcode.write;
    encodeSessionHeader(
      group.view,
      at,
      this.#limits.version === 2 ? opcode | ACKNOWLEDGED : opcode,
      ring.length(seq),
      ring.addressLow(seq),
      ring.addressHigh(seq),
    );
    this.#headerSent = true;
    this.#bodySent = 0;
    if (this.#limits.version === 1) {
      // Without status frames the payload of a READ is all that comes, and nothing for a WRITE.
      if (ring.isRead(seq)) {
        this.#reader.expectPayload(ring.store(seq), ring.offset(seq), ring.length(seq));
      } else {
        this.#reader.discard(Number.POSITIVE_INFINITY);
      }
    }
    return true;
  }

  /** False when the group is full before the payload has ended. */
  #transmitBody(seq: number, group: TransmitGroup): boolean {
    const ring = this.#ring;
    const length = ring.length(seq);
    while (this.#bodySent < length) {
      const left = length - this.#bodySent;
      const count = Math.min(left, group.room);
      if (count === 0) return false;
      const window = windowOf(ring.store(seq), ring.offset(seq) + this.#bodySent, count);
      if (window === undefined) {
        this.#fail(this.#faults.memoryLost(this.#subject(seq)));
        return false;
      }
      if (count > COPY_BYTES || !group.copy(window)) group.add(window);
      this.#bodySent += count;
    }
    return true;
  }

  // ---- receiving

  receiveTarget(): Buffer {
    return this.#reader.receiveTarget();
  }

  received(count: number): void {
    this.#reader.received(count);
  }

  handlePrefix(bytes: Uint8Array, at: number): void {
    this.#skipUnsent();
    const seq = this.#answered;
    if (!this.#begun(seq)) {
      this.#fail(this.#faults.protocol(undefined, 'bytes came that nothing had asked for'));
      return;
    }
    const code = decodeStatusFrame(bytes, at);
    if (code === STATUS_MALFORMED) {
      this.#fail(
        this.#faults.protocol(this.#subject(seq), 'the answer does not begin with a status frame'),
      );
    } else if (code !== StatusCode.ok) {
      // A target serves nothing behind a refusal, and closes.
      this.peerEnded = true;
      this.#fail(this.#faults.rejected(this.#subject(seq)));
    } else if (this.#ring.isRead(seq)) {
      this.#reader.expectPayload(
        this.#ring.store(seq),
        this.#ring.offset(seq),
        this.#ring.length(seq),
      );
    } else {
      this.#answered += 1;
      this.#answers += 1;
      this.#reader.expectPrefix();
    }
  }

  handlePayloadEnd(): void {
    this.#answered += 1;
    this.#answers += 1;
    this.#reader.expectPrefix();
  }

  handleMemoryLost(): void {
    this.#fail(this.#faults.memoryLost(this.#subject(this.#answered)));
  }

  /** v1 only: the write that was sent counts as ended, because the peer has taken the stream's end. */
  confirmSent(): void {
    invariant(this.#limits.version === 1 && this.allWritten, 'only a written v1 request is sent');
    this.#answered = this.#sending;
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
      const state = this.#ring.state(seq);
      if (state === SliceState.reported) {
        this.#pop();
        freed = true;
        continue;
      }
      const run = this.#ring.run(seq);
      if (state === SliceState.dropped) {
        const fault = this.#localFaults?.get(seq) ?? this.#faults.canceled();
        this.#localFaults?.delete(seq);
        this.#pop();
        report(run, 1, fault.outcome, fault.error, true);
      } else {
        if (seq >= this.#answered || seq >= this.#written) break;
        let count = 0;
        do {
          this.#pop();
          count += 1;
        } while (this.#endsWell(this.#head) && this.#ring.run(this.#head) === run);
        report(run, count, Outcome.ok, undefined, true);
      }
      reported = true;
    }
    if (this.#head === this.#tail) this.#rewind();
    return freed && !reported;
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
      const state = this.#ring.state(seq);
      if (state === SliceState.reported || this.#ring.run(seq) !== run) continue;
      if (this.#begun(seq) && state !== SliceState.dropped) {
        this.#ring.setState(seq, SliceState.unwanted);
        serving = true;
        waits = true;
      } else if (waits || state === SliceState.dropped) {
        this.#ring.setState(seq, SliceState.dropped);
        waits = true;
      } else {
        this.#ring.setState(seq, SliceState.reported);
        this.#bytes -= this.#ring.length(seq);
        count += 1;
      }
    }
    if (count > 0) {
      const { outcome, error } = this.#faults.canceled();
      report(run, count, outcome, error, true);
    }
    return serving;
  }

  /** Whether slices of `run` that core does not want any more are still being served. */
  servesUnwanted(run: SliceRun): boolean {
    for (let seq = this.#head; seq < this.#tail; seq += 1) {
      if (this.#ring.state(seq) === SliceState.unwanted && this.#ring.run(seq) === run) return true;
    }
    return false;
  }

  /**
   * Reports everything that is left; the connection is gone and refers to no memory any more.
   *
   * @param cause what ended it; hits the slice that was being served, the others are to be replayed
   * @param everybody true when `cause` hits all slices alike
   */
  finish(report: Report, cause: Fault, everybody = false): void {
    // What was answered and handed over has also left: the socket is closed.
    this.#written = this.#sending;
    this.settle(report);
    let blame: Fault | undefined = this.#fault ?? cause;
    while (this.#head < this.#tail) {
      const seq = this.#head;
      const state = this.#ring.state(seq);
      if (state === SliceState.reported) {
        this.#pop();
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
    const run = this.#ring.run(first);
    const quiescent = this.#quiescent(first);
    const live = this.#ring.state(first) === SliceState.live;
    const alike = live ? everybody || fault === REPLAY : fault.outcome === Outcome.canceled;
    let count = 0;
    let seq = first;
    do {
      this.#pop();
      count += 1;
      seq += 1;
    } while (
      alike &&
      seq < this.#tail &&
      this.#ring.state(seq) !== SliceState.reported &&
      (this.#ring.state(seq) === SliceState.live) === live &&
      this.#localFaults?.has(seq) !== true &&
      this.#ring.run(seq) === run &&
      this.#quiescent(seq) === quiescent
    );
    report(run, count, fault.outcome, fault.error, quiescent);
  }

  #endOf(seq: number, state: SliceState, fault: Fault): Fault {
    if (state === SliceState.live) return fault;
    const local = this.#localFaults?.get(seq);
    if (local !== undefined) return local;
    // A refusal says more than the wish to end it.
    return fault.outcome === Outcome.rejected ? fault : this.#faults.canceled();
  }

  #quiescent(seq: number): boolean {
    return this.peerEnded || this.#ring.isRead(seq) || !this.#begun(seq);
  }

  #begun(seq: number): boolean {
    return seq < this.#sending || (seq === this.#sending && this.#headerSent);
  }

  #endsWell(seq: number): boolean {
    return (
      seq < this.#answered && seq < this.#written && this.#ring.state(seq) <= SliceState.unwanted
    );
  }

  /** Answers are never owed for slices that were not sent. */
  #skipUnsent(): void {
    while (
      this.#answered < this.#sending &&
      this.#ring.state(this.#answered) >= SliceState.dropped
    ) {
      this.#answered += 1;
    }
  }

  #drop(seq: number, fault: Fault): void {
    this.#ring.setState(seq, SliceState.dropped);
    this.#localFaults ??= new Map();
    this.#localFaults.set(seq, fault);
  }

  #fail(fault: Fault): void {
    this.#fault = fault;
    this.#reader.stop();
  }

  #pop(): void {
    const seq = this.#head;
    if (this.#ring.state(seq) !== SliceState.reported) this.#bytes -= this.#ring.length(seq);
    this.#ring.clear(seq);
    this.#head += 1;
    // A slice that was dropped at the front was passed by nobody yet.
    if (this.#sending < this.#head) this.#sending = this.#head;
    if (this.#answered < this.#head) this.#answered = this.#head;
    if (this.#written < this.#head) this.#written = this.#head;
  }

  /** Keeps sequence numbers small while nothing is owned. */
  #rewind(): void {
    if (this.#head !== this.#tail || this.#groupEnd > this.#written) return;
    this.#head = this.#answered = this.#written = this.#sending = this.#tail = 0;
    this.#groupEnd = 0;
  }

  #subject(seq: number): FaultSubject {
    const ring = this.#ring;
    return {
      isRead: ring.isRead(seq),
      length: ring.length(seq),
      addressLow: ring.addressLow(seq),
      addressHigh: ring.addressHigh(seq),
      bytesDone: ring.isRead(seq) && this.#reader.inPayload ? this.#reader.payloadDone : 0,
    };
  }
}
