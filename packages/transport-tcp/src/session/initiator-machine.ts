import { invariant, Opcode, type Slice, type SliceRun } from '@transfer-engine/core/transport';
import { ACKNOWLEDGED, encodeSessionHeader, SESSION_HEADER_BYTES } from '../wire/session-header.ts';
import {
  decodeExtendedAnswer,
  encodeExtendedRequest,
  encodeHello,
  EXTENDED_FRAME_BYTES,
  ExtendedAnswer,
  ExtendedStatus,
  HELLO_BYTES,
  REFUSED_BODY_MAX_BYTES,
  type Hello,
} from '../wire/extended-frames.ts';
import {
  decodeStatusFrame,
  STATUS_FRAME_BYTES,
  STATUS_MALFORMED,
  StatusCode,
} from '../wire/status-frame.ts';
import type { Checksum } from './checksum.ts';
import type { Fault, FaultSubject, FaultWriter } from './fault.ts';
import { FrameReader, type FrameOwner } from './frame-reader.ts';
import { windowOf } from './memory-window.ts';
import { SliceLedger, type LedgerLimits, type PeerFacts, type Report } from './slice-ledger.ts';
import type { SliceRing } from './slice-ring.ts';
import { COPY_BYTES, type TransmitGroup } from './transmit-group.ts';

/** Slices above this size are heard of before they end. */
const LONG_BYTES = 2 * 1024 * 1024;

export interface InitiatorLimits extends LedgerLimits {
  /** 1: no answers to writes, no status frames. 2: every request is answered by a status frame. */
  readonly version: 1 | 2;
  /** Speaks framing x1, beginning with this; undefined: v1 or v2. */
  readonly extended?: { readonly hello: Hello; readonly checksum: Checksum } | undefined;
}

/**
 * The initiator's side of one data connection, without the connection.
 *
 * Slices are sent in the order in which they were accepted, without waiting for answers, and
 * answers come in the same order. The {@link SliceLedger} says which slice is where.
 */
export class InitiatorMachine implements FrameOwner {
  readonly #version: 1 | 2;
  readonly #ledger: SliceLedger;
  readonly #ring: SliceRing;
  readonly #reader: FrameReader;
  readonly #faults: FaultWriter;
  readonly #extended: InitiatorLimits['extended'];
  readonly #answer = new ExtendedAnswer();
  #helloSent = false;
  #helloAnswered = false;
  /** The fault is not that of one slice. */
  #hitsAll = false;
  /** Payload that was handed over of the slice that is being sent. */
  #bodySent = 0;
  /** What ended the connection, if the machine itself had to. */
  #fault: Fault | undefined;
  /** Payload of the READ that was coming in when the machine failed. */
  #donePayload = 0;

  constructor(limits: InitiatorLimits, scratch: Buffer, faults: FaultWriter) {
    this.#version = limits.version;
    this.#ledger = new SliceLedger(limits, faults);
    this.#ring = this.#ledger.ring;
    const { extended } = limits;
    this.#extended = extended;
    const prefixBytes = extended === undefined ? STATUS_FRAME_BYTES : EXTENDED_FRAME_BYTES;
    this.#reader = new FrameReader(prefixBytes, scratch, this, extended?.checksum);
    this.#faults = faults;
  }

  /** Slices that are owned, also those whose end waits for its turn to be reported. */
  get outstanding(): number {
    return this.#ledger.outstanding;
  }

  get outstandingBytes(): number {
    return this.#ledger.outstandingBytes;
  }

  /** Whether the peer owes an answer. */
  get waiting(): boolean {
    return this.#ledger.awaited >= 0;
  }

  /** How many answers came so far. */
  get answers(): number {
    return this.#ledger.answers;
  }

  /** Whether a status is owed for a request that was written completely. */
  get answerDue(): boolean {
    return this.#ledger.answerDue && !this.#reader.inPayload;
  }

  /** Whether everything that was accepted has been written. */
  get allWritten(): boolean {
    return this.#ledger.allWritten;
  }

  get hasWork(): boolean {
    return this.#fault === undefined && this.#ledger.next >= 0;
  }

  /** Set when the connection has to end because of what came over it, or of local memory. */
  get fault(): Fault | undefined {
    return this.#fault;
  }

  /** Whether the fault hits all slices alike. */
  get faultHitsAll(): boolean {
    return this.#hitsAll;
  }

  /** Whether the peer has shown that it speaks framing x1, for this connection. */
  get helloAnswered(): boolean {
    return this.#helloAnswered;
  }

  /** Whether the peer may still apply bytes of a slice. */
  get mayChange(): boolean {
    return this.#ledger.mayChange;
  }

  /** The slice that an end of the connection would hit, for error messages. */
  get subject(): FaultSubject | undefined {
    const seq = this.#ledger.exposed;
    return seq < 0 ? undefined : this.#subject(seq);
  }

  /** The run of the slice that is being served, when that one may take long. */
  get longRun(): SliceRun | undefined {
    const seq = this.#ledger.awaited;
    return seq >= 0 && this.#ring.length(seq) > LONG_BYTES ? this.#ring.run(seq) : undefined;
  }

  /** The peer has ended the stream: it touches no memory for this connection any more. */
  endPeer(): void {
    this.#ledger.peerEnded = true;
    if (this.#extended === undefined || this.#helloAnswered) return;
    // What older targets say to a hello. They look at nothing that comes behind a refusal.
    const { partialPrefix } = this.#reader;
    if (partialPrefix.length < STATUS_FRAME_BYTES) return;
    const code = decodeStatusFrame(partialPrefix, 0);
    if (code !== STATUS_MALFORMED && code !== StatusCode.ok) this.#ledger.refused = true;
  }

  /** The connection ends because the peer does not speak framing x1. */
  fallBack(): void {
    this.#ledger.uncheckable = true;
  }

  /** As the ledger's. */
  takeFacts(facts: PeerFacts): boolean {
    return this.#ledger.takeFacts(facts);
  }

  fits(length: number): boolean {
    return this.#ledger.fits(length);
  }

  accept(run: SliceRun, slice: Slice): void {
    this.#ledger.accept(run, slice);
  }

  /** Whether slices of `run` are owned and not reported. */
  owns(run: SliceRun): boolean {
    return this.#ledger.owns(run);
  }

  // ---- sending

  /**
   * Fills a group with what is to be sent next. `transmitted` must be called when it was written,
   * and before the next group is filled.
   */
  transmit(group: TransmitGroup): void {
    const ledger = this.#ledger;
    if (this.#extended !== undefined && !this.#helloSent && ledger.next >= 0) {
      this.#transmitHello(group, this.#extended.hello);
    }
    while (this.#fault === undefined) {
      const seq = ledger.next;
      if (seq < 0) break;
      if (!ledger.begun) {
        if (group.room === 0) break;
        const first = this.#firstWindow(seq, group);
        if (first === undefined) continue;
        if (!this.#transmitHeader(seq, group)) break;
        if (!this.#ring.isRead(seq)) this.#transmitPiece(first, group);
      }
      if (!this.#ring.isRead(seq) && !this.#transmitBody(seq, group)) break;
      ledger.sent();
    }
    group.seal();
    ledger.closeGroup();
  }

  /** The group is written; the socket no longer refers to its memory. */
  transmitted(): void {
    this.#ledger.written();
  }

  /**
   * The memory that goes out with the header; for a READ, what is going to be filled. A slice whose
   * memory is gone ends here, and nothing of it is sent.
   */
  #firstWindow(seq: number, group: TransmitGroup): Buffer | undefined {
    const ring = this.#ring;
    const length = ring.length(seq);
    const count = ring.isRead(seq) ? length : Math.min(length, group.room);
    const window = windowOf(ring.store(seq), ring.offset(seq), count);
    if (window === undefined) {
      this.#ledger.drop(this.#faults.memoryLost(this.#subject(seq)));
    } else if (this.#extended === undefined && ring.isChecked(seq)) {
      this.#ledger.drop(this.#faults.unchecked(this.#subject(seq)));
      return undefined;
    }
    return window;
  }

  /** False when the group is full. */
  #transmitHeader(seq: number, group: TransmitGroup): boolean {
    const ring = this.#ring;
    const at = group.reserve(SESSION_HEADER_BYTES);
    if (at < 0) return false;
    this.#ledger.begin();
    this.#bodySent = 0;
    if (this.#extended !== undefined) {
      this.#encodeExtended(seq, group, at);
      return true;
    }
    const opcode = ring.isRead(seq) ? Opcode.read : Opcode.write;
    encodeSessionHeader(
      group.view,
      at,
      this.#version === 2 ? opcode | ACKNOWLEDGED : opcode,
      ring.length(seq),
      ring.addressLow(seq),
      ring.addressHigh(seq),
    );
    if (this.#version === 1) {
      // Without status frames the payload of a READ is all that comes, and nothing for a WRITE.
      if (ring.isRead(seq)) this.#expectPayload(seq);
      else this.#reader.discard(Number.POSITIVE_INFINITY);
    }
    return true;
  }

  #transmitHello(group: TransmitGroup, hello: Hello): void {
    const at = group.reserve(HELLO_BYTES);
    invariant(at >= 0, 'a hello is the first of its group');
    encodeHello(group.view, at, hello);
    this.#helloSent = true;
  }

  #encodeExtended(seq: number, group: TransmitGroup, at: number): void {
    const ring = this.#ring;
    const isWrite = !ring.isRead(seq);
    const checksum = ring.isChecked(seq) ? (isWrite ? this.#checksumOf(seq) : 0) : undefined;
    encodeExtendedRequest(
      group.view,
      at,
      isWrite,
      ring.length(seq),
      ring.addressLow(seq),
      ring.addressHigh(seq),
      this.#ledger.begunCount,
      checksum,
    );
  }

  /** Of the source. Memory that is gone is found when the payload is sent. */
  #checksumOf(seq: number): number {
    const ring = this.#ring;
    const window = windowOf(ring.store(seq), ring.offset(seq), ring.length(seq));
    return window === undefined ? 0 : (this.#extended?.checksum(window) ?? 0);
  }

  /** False when the group is full before the payload has ended. */
  #transmitBody(seq: number, group: TransmitGroup): boolean {
    const ring = this.#ring;
    const length = ring.length(seq);
    while (this.#bodySent < length) {
      const count = Math.min(length - this.#bodySent, group.room);
      if (count === 0) return false;
      const window = windowOf(ring.store(seq), ring.offset(seq) + this.#bodySent, count);
      if (window === undefined) {
        this.#fail(this.#faults.memoryLost(this.#subject(seq)));
        return false;
      }
      this.#transmitPiece(window, group);
    }
    return true;
  }

  #transmitPiece(window: Buffer, group: TransmitGroup): void {
    if (window.length > COPY_BYTES || !group.copy(window)) group.add(window);
    this.#bodySent += window.length;
  }

  // ---- receiving

  receiveTarget(): Buffer {
    return this.#reader.receiveTarget();
  }

  received(count: number): void {
    this.#reader.received(count);
  }

  handlePrefix(bytes: Uint8Array, at: number): void {
    if (this.#extended !== undefined && !this.#helloAnswered) {
      this.#takeHelloAnswer(bytes, at);
      return;
    }
    const seq = this.#ledger.awaited;
    if (seq < 0) {
      this.#fail(this.#faults.protocol(undefined, 'bytes came that nothing had asked for'));
      return;
    }
    if (this.#extended !== undefined) {
      this.#takeExtended(bytes, at, seq);
      return;
    }
    const code = decodeStatusFrame(bytes, at);
    if (code === STATUS_MALFORMED) {
      this.#fail(
        this.#faults.protocol(this.#subject(seq), 'the answer does not begin with a status frame'),
      );
    } else if (code !== StatusCode.ok) {
      // A target serves nothing behind a refusal, and closes.
      this.#ledger.refused = true;
      this.#fail(this.#faults.rejected(this.#subject(seq)));
    } else if (this.#ring.isRead(seq)) {
      this.#expectPayload(seq);
    } else {
      this.#ledger.answer();
      this.#reader.expectPrefix();
    }
  }

  #takeHelloAnswer(bytes: Uint8Array, at: number): void {
    const answer = this.#answer;
    if (!decodeExtendedAnswer(bytes, at, answer)) {
      this.#fail(this.#faults.protocol(undefined, 'the answer to the hello is none'));
    } else if (answer.code === ExtendedStatus.ok) {
      this.#helloAnswered = true;
      this.#reader.expectPrefix();
    } else if (answer.code === ExtendedStatus.stale) {
      // Whoever answers has served nothing of what followed.
      this.#ledger.refused = true;
      this.#hitsAll = true;
      this.#fail(this.#faults.restarted());
    } else {
      this.#fail(this.#faults.protocol(undefined, `the hello was answered by code ${answer.code}`));
    }
  }

  #takeExtended(bytes: Uint8Array, at: number, seq: number): void {
    const answer = this.#answer;
    const ring = this.#ring;
    const isRead = ring.isRead(seq);
    const id = (this.#ledger.answers + 1) & 0xffff;
    if (!decodeExtendedAnswer(bytes, at, answer) || answer.id !== id) {
      this.#breach(seq, `the answer does not begin with the frame for request ${id}`);
      return;
    }
    if (answer.code === ExtendedStatus.rejected) {
      if (isRead || ring.length(seq) <= REFUSED_BODY_MAX_BYTES) {
        this.#ledger.fail(this.#faults.rejected(this.#subject(seq)));
        this.#reader.expectPrefix();
      } else {
        this.#ledger.refused = true;
        this.#fail(this.#faults.rejected(this.#subject(seq)));
      }
    } else if (answer.code === ExtendedStatus.corrupt && !isRead && ring.isChecked(seq)) {
      this.#ledger.fail(this.#faults.corrupt(this.#subject(seq)));
      this.#reader.expectPrefix();
    } else if (answer.code !== ExtendedStatus.ok) {
      this.#breach(seq, `the answer has code ${answer.code}`);
    } else if (isRead) {
      if (ring.isChecked(seq) && !answer.checked) this.#breach(seq, 'the checksum is missing');
      else this.#expectPayload(seq);
    } else if (answer.appliedBytes !== ring.length(seq)) {
      this.#breach(seq, `the answer speaks of ${answer.appliedBytes} bytes`);
    } else {
      this.#ledger.answer();
      this.#reader.expectPrefix();
    }
  }

  handlePayloadEnd(): void {
    const seq = this.#ledger.awaited;
    if (this.#ring.isChecked(seq) && this.#reader.payloadChecksum !== this.#answer.value) {
      this.#ledger.fail(this.#faults.corrupt(this.#subject(seq)));
    } else {
      this.#ledger.answer();
    }
    this.#reader.expectPrefix();
  }

  handleMemoryLost(): void {
    this.#fail(this.#faults.memoryLost(this.#subject(this.#ledger.awaited)));
  }

  /** v1 only: the peer has taken the end of the stream, so the write before it counts as sent. */
  confirmSent(): void {
    invariant(this.#version === 1 && this.allWritten, 'only a written v1 request is sent');
    this.#ledger.answer();
  }

  // ---- ends, see the ledger

  settle(report: Report): boolean {
    return this.#ledger.settle(report);
  }

  cancel(run: SliceRun, report: Report): boolean {
    return this.#ledger.cancel(run, report);
  }

  servesUnwanted(run: SliceRun): boolean {
    return this.#ledger.servesUnwanted(run);
  }

  /** As the ledger's; a fault of the machine itself goes before `cause`. */
  finish(report: Report, cause: Fault, everybody = false): void {
    const own = everybody ? undefined : this.#fault;
    const payloadDone = this.#fault === undefined ? this.#reader.payloadDone : this.#donePayload;
    this.#ledger.finish(report, own ?? cause, everybody, payloadDone);
  }

  #expectPayload(seq: number): void {
    const ring = this.#ring;
    const checked = this.#extended !== undefined && ring.isChecked(seq);
    const offset = ring.offset(seq);
    if (!this.#reader.expectPayload(ring.store(seq), offset, ring.length(seq), checked)) {
      this.#fail(this.#faults.memoryLost(this.#subject(seq)));
    }
  }

  #fail(fault: Fault): void {
    this.#fault = fault;
    this.#donePayload = this.#reader.payloadDone;
    this.#reader.stop();
  }

  #breach(seq: number, what: string): void {
    this.#fail(this.#faults.protocol(this.#subject(seq), what));
  }

  #subject(seq: number): FaultSubject {
    const reading = this.#ring.isRead(seq) && this.#reader.inPayload;
    return this.#ledger.subject(seq, reading ? this.#reader.payloadDone : 0);
  }
}
