import {
  Opcode,
  type MemoryRegistry,
  type RegisteredRegion,
} from '@transfer-engine/core/transport';
import type { TcpCounters } from '../counters.ts';
import {
  decodeSessionHeader,
  SESSION_HEADER_BYTES,
  SessionHeader,
} from '../wire/session-header.ts';
import {
  CHECKED_READ_MAX_BYTES,
  decodeExtendedRequest,
  decodeHello,
  decodeToken,
  encodeExtendedAnswer,
  EXTENDED_FRAME_BYTES,
  ExtendedRequest,
  ExtendedStatus,
  HelloKind,
  REFUSED_BODY_MAX_BYTES,
} from '../wire/extended-frames.ts';
import { encodeStatusFrame, STATUS_FRAME_BYTES, StatusCode } from '../wire/status-frame.ts';
import { AnswerQueue, CHECKED } from './answer-queue.ts';
import type { Checksum } from './checksum.ts';
import { FrameReader, type FrameOwner } from './frame-reader.ts';
import { windowOf } from './memory-window.ts';
import type { Abortable, AbortFacts, TokenTable } from './token-table.ts';
import type { TransmitGroup } from './transmit-group.ts';

/** Payload of answers that may wait to be sent before further requests are left unread. */
export const ANSWER_BYTES_MAX = 4 * 1024 * 1024;
/** Answers that may wait to be sent before further requests are left unread. */
export const ANSWERS_MAX = 1024;
/** Bytes of a refused request that are read and thrown away, so that the refusal is not lost. */
const DISCARD_MAX_BYTES = 64 * 1024 * 1024;
/** What a peer may have sent behind a refused request before it saw the refusal. */
const DISCARD_BEHIND_BYTES = 8 * 1024 * 1024;

const NO_STATUS = -1;

/**
 * What the first frames of a connection have made of it. After the first request that is no hello
 * it is `plain` for good.
 */
type Framing = 'undecided' | 'hello' | 'plain' | 'extended' | 'ended';

/** What is to be done with the connection once all answers are written. */
export type Ending = 'half-close' | 'close' | 'reset';

/** What framing x1 needs. */
export interface ExtendedTarget {
  /** Instance of this engine; a hello for another one is stale. */
  readonly instance: string;
  readonly tokens: TokenTable;
  readonly checksum: Checksum;
}

export interface TargetDeps {
  readonly registry: MemoryRegistry;
  readonly scratch: Buffer;
  readonly counters: TcpCounters;
  /** Called for each refused request, with the reason. */
  readonly onRefused: (header: SessionHeader, reason: string) => void;
  /** Undefined: framing x1 is not understood, as in C++. */
  readonly extended?: ExtendedTarget | undefined;
}

/**
 * The target's side of one data connection, without the connection.
 *
 * Requests are served in their order. A WRITE is acknowledged when its last byte is in the region;
 * a READ is answered out of the region's own memory. A region is pinned while a request uses it.
 */
export class TargetMachine implements FrameOwner, Abortable {
  readonly #deps: TargetDeps;
  readonly #onAborted: () => void;
  readonly #reader: FrameReader;
  readonly #header = new SessionHeader();
  #framing: Framing;
  /** The first frame of a hello, until the second one is there. */
  #hello: ReturnType<typeof decodeHello>;
  #token: string | undefined;
  #request: ExtendedRequest | undefined;
  /** Requests of framing x1 that have their answer, though it may not be sent. */
  #finished = 0;
  /** Those of them that went well. */
  #served = 0;
  /** What the answer to an abort tells. */
  #facts: AbortFacts | undefined;
  readonly #answers = new AnswerQueue();
  /** Region of the WRITE whose payload is coming in. */
  #writing: RegisteredRegion | undefined;
  #writeAcknowledged = false;
  #answerBytes = 0;
  /** Answers at the front that the group under way completes; those before it are handed over. */
  #handed = 0;
  #statusSent = false;
  #bodySent = 0;
  #ending: Ending | undefined;
  /** The memory of an answer is gone: the connection cannot be served on. */
  #broken = false;

  /** @param onAborted the connection has to be destroyed before anything more is read */
  constructor(deps: TargetDeps, onAborted: () => void = () => undefined) {
    this.#deps = deps;
    this.#onAborted = onAborted;
    this.#framing = deps.extended === undefined ? 'plain' : 'undecided';
    const { scratch, extended } = deps;
    this.#reader = new FrameReader(SESSION_HEADER_BYTES, scratch, this, extended?.checksum);
  }

  /** Set when a request was refused: what follows when nothing is left to be sent. */
  get ending(): Ending | undefined {
    return this.#ending;
  }

  get broken(): boolean {
    return this.#broken;
  }

  /** Whether the stream may end here without cutting a request. */
  get atBoundary(): boolean {
    const { atBoundary } = this.#reader;
    return (atBoundary && this.#framing !== 'hello') || this.#ending !== undefined;
  }

  /** Whether all that may be read behind a refused request has been read. */
  get discarded(): boolean {
    return this.#ending !== undefined && this.#reader.stopped;
  }

  get inHeader(): boolean {
    return this.#reader.inPrefix || this.#framing === 'hello';
  }

  get inPayload(): boolean {
    return this.#reader.inPayload || this.#reader.skipping;
  }

  /** Whether nothing more should be read for now. */
  get paused(): boolean {
    return this.#reader.paused;
  }

  /** Whether answers wait to be sent or are being written. */
  get answering(): boolean {
    return this.#answers.size > 0;
  }

  get hasWork(): boolean {
    return this.#handed < this.#answers.size && !this.#broken;
  }

  /** Whether a request that uses `region` is being served. */
  uses(region: RegisteredRegion): boolean {
    if (this.#writing === region) return true;
    for (let index = 0; index < this.#answers.size; index += 1) {
      if (this.#answers.region(index) === region) return true;
    }
    return false;
  }

  // ---- receiving

  receiveTarget(): Buffer {
    return this.#reader.receiveTarget();
  }

  received(count: number): void {
    this.#reader.received(count);
  }

  handlePrefix(bytes: Uint8Array, at: number): void {
    if (this.#framing === 'extended') {
      this.#takeExtended(bytes, at);
      return;
    }
    if (this.#framing === 'undecided') {
      this.#hello = decodeHello(bytes, at);
      this.#framing = this.#hello === undefined ? 'plain' : 'hello';
      if (this.#hello !== undefined) return;
    } else if (this.#framing === 'hello') {
      this.#takeToken(decodeToken(bytes, at));
      return;
    }
    decodeSessionHeader(bytes, at, this.#header);
    this.#serve(false, -1);
  }

  /** Serves the request in `#header`. */
  #serve(checked: boolean, tag: number): void {
    const header = this.#header;
    // Joined words are NaN when they do not fit a number; such a range is in no region.
    if (!(header.length > 0) || !(header.address >= 0)) {
      this.#refuse(header.length === 0 ? 'length 0' : 'no such range', tag);
      return;
    }
    if (header.opcode !== Opcode.read && header.opcode !== Opcode.write) {
      this.#refuse('unknown opcode', tag);
      return;
    }
    const access = header.opcode === Opcode.write ? 'write' : 'read';
    const region = this.#deps.registry.resolveRemote(header.address, header.length, access);
    if (region === undefined) {
      this.#refuse('not in one registered region, or not permitted', tag);
      return;
    }
    if (checked && access === 'read' && header.length > CHECKED_READ_MAX_BYTES) {
      this.#refuse('too long for a READ with checksum', tag);
      return;
    }
    const offset = header.address - region.address;
    const present =
      access === 'write'
        ? this.#reader.expectPayload(region.store, offset, header.length, checked)
        : windowOf(region.store, offset, header.length) !== undefined;
    if (!present) {
      this.#refuse('the region has lost its memory', tag);
      return;
    }
    region.pin();
    if (access === 'write') {
      this.#writing = region;
      this.#writeAcknowledged = header.acknowledged;
    } else {
      this.#reader.expectPrefix();
      const code = header.acknowledged ? StatusCode.ok : NO_STATUS;
      this.#answer(code, region, offset, header.length, checked ? tag | CHECKED : tag);
    }
  }

  handlePayloadEnd(): void {
    this.#writing?.unpin();
    this.#writing = undefined;
    this.#reader.expectPrefix();
    const request = this.#request;
    const tag = request?.id ?? -1;
    if (request?.checked === true && this.#reader.payloadChecksum !== request.checksum) {
      this.#deps.counters.corruptWrites += 1;
      this.#answer(ExtendedStatus.corrupt, undefined, request.length, 0, tag);
      return;
    }
    this.#deps.counters.writesServed += 1;
    if (this.#writeAcknowledged) {
      this.#answer(StatusCode.ok, undefined, this.#header.length, 0, tag);
    }
  }

  handleMemoryLost(): void {
    this.#broken = true;
    this.#reader.stop();
  }

  // ---- framing x1

  #takeExtended(bytes: Uint8Array, at: number): void {
    const request = this.#request as ExtendedRequest;
    const header = this.#header;
    if (
      !decodeExtendedRequest(bytes, at, request) ||
      request.id !== ((this.#finished + 1) & 0xffff)
    ) {
      // Not a request, or not the next one: nothing after it can be trusted.
      this.#deps.counters.requestsRefused += 1;
      this.handleMemoryLost();
      return;
    }
    header.length = request.length;
    header.address = request.address;
    header.addressLow = request.addressLow;
    header.addressHigh = request.addressHigh;
    header.opcode = request.isWrite ? Opcode.write : Opcode.read;
    header.acknowledged = true;
    this.#serve(request.checked, request.id);
  }

  #takeToken(token: string): void {
    const { instance, tokens } = this.#deps.extended as ExtendedTarget;
    const { counters } = this.#deps;
    const hello = this.#hello as NonNullable<ReturnType<typeof decodeHello>>;
    let code: ExtendedStatus = ExtendedStatus.ok;
    if (hello.instance !== instance) {
      code = ExtendedStatus.stale;
      counters.staleHellos += 1;
    } else if (hello.kind === HelloKind.abort) {
      this.#facts = tokens.abort(token);
      code = this.#facts === undefined ? ExtendedStatus.rejected : ExtendedStatus.aborted;
      if (this.#facts !== undefined) counters.abortsServed += 1;
    } else if (tokens.open(token, this)) {
      this.#token = token;
      counters.extendedSessions += 1;
    } else {
      code = ExtendedStatus.rejected;
    }
    this.#answers.push(code, undefined, 0, 0, this.#facts?.nextId ?? 0);
    if (code === ExtendedStatus.ok) {
      this.#framing = 'extended';
      this.#request = new ExtendedRequest();
    } else {
      this.#framing = 'ended';
      this.#ending = 'half-close';
      this.#reader.discard(DISCARD_BEHIND_BYTES);
    }
  }

  abort(): AbortFacts {
    const inProgress = this.#writing !== undefined;
    const facts = {
      nextId: (this.#finished + 1) & 0xffff,
      served: this.#served,
      inProgress,
      appliedBytes: inProgress ? this.#reader.payloadDone : 0,
    };
    this.#broken = true;
    this.#reader.stop();
    this.#onAborted();
    return facts;
  }

  // ---- sending

  /**
   * Fills a group with what is to be sent next. `transmitted` must be called when it was written,
   * and before the next group is filled.
   */
  transmit(group: TransmitGroup): void {
    while (this.hasWork) {
      const code = this.#answers.code(this.#handed);
      if (!this.#statusSent && code !== NO_STATUS && !this.#transmitStatus(code, group)) break;
      this.#statusSent = true;
      if (!this.#transmitBody(group)) break;
      this.#statusSent = false;
      this.#bodySent = 0;
      this.#handed += 1;
    }
    group.seal();
  }

  /** The group is written; the socket no longer refers to its memory. */
  transmitted(): void {
    for (; this.#handed > 0; this.#handed -= 1) {
      if (this.#answers.region(0) !== undefined) this.#deps.counters.readsServed += 1;
      this.#answerBytes -= this.#answers.release();
    }
    if (
      this.#reader.paused &&
      this.#answerBytes <= ANSWER_BYTES_MAX / 2 &&
      this.#answers.size <= ANSWERS_MAX / 2
    ) {
      this.#reader.resume();
    }
  }

  /** The connection is gone: lets go of all regions. */
  close(): void {
    if (this.#token !== undefined) this.#deps.extended?.tokens.close(this.#token);
    this.#token = undefined;
    this.#reader.stop();
    this.#writing?.unpin();
    this.#writing = undefined;
    this.#handed = 0;
    while (this.#answers.size > 0) this.#answers.release();
  }

  /** False when the group is full. */
  #transmitStatus(code: number, group: TransmitGroup): boolean {
    const tag = this.#answers.tag(this.#handed);
    const at = group.reserve(tag < 0 ? STATUS_FRAME_BYTES : EXTENDED_FRAME_BYTES);
    if (at < 0) return false;
    if (tag < 0) {
      encodeStatusFrame(group.view, at, code);
      return true;
    }
    const facts = this.#facts;
    const status = code as ExtendedStatus;
    if (facts !== undefined) {
      const { served, appliedBytes, inProgress } = facts;
      encodeExtendedAnswer(group.view, at, status, tag, served, appliedBytes, inProgress);
      return true;
    }
    const value = tag >= CHECKED ? this.#checksumOfAnswer() : undefined;
    const isRead = this.#answers.region(this.#handed) !== undefined;
    const applied = isRead ? 0 : this.#answers.offset(this.#handed);
    encodeExtendedAnswer(group.view, at, status, tag & 0xffff, value, applied);
    return true;
  }

  /** Of the memory as it goes out. */
  #checksumOfAnswer(): number {
    const answers = this.#answers;
    const index = this.#handed;
    const { store } = answers.region(index) as RegisteredRegion;
    const window = windowOf(store, answers.offset(index), answers.length(index));
    // Memory that is gone ends the connection with the payload that follows.
    return window === undefined ? 0 : (this.#deps.extended as ExtendedTarget).checksum(window);
  }

  #transmitBody(group: TransmitGroup): boolean {
    const region = this.#answers.region(this.#handed);
    if (region === undefined) return true;
    const length = this.#answers.length(this.#handed);
    while (this.#bodySent < length) {
      const count = Math.min(length - this.#bodySent, group.room);
      if (count === 0) return false;
      const at = this.#answers.offset(this.#handed) + this.#bodySent;
      const window = windowOf(region.store, at, count);
      if (window === undefined) {
        this.#broken = true;
        return false;
      }
      group.add(window);
      this.#bodySent += count;
    }
    return true;
  }

  /** @param offset place of the payload; without a region, bytes that were applied */
  #answer(
    code: number,
    region: RegisteredRegion | undefined,
    offset: number,
    length: number,
    tag: number,
  ): void {
    if (tag >= 0) {
      this.#finished += 1;
      if (code === ExtendedStatus.ok) this.#served += 1;
    }
    this.#answers.push(code, region, offset, length, tag);
    this.#answerBytes += length;
    if (this.#answerBytes > ANSWER_BYTES_MAX || this.#answers.size >= ANSWERS_MAX) {
      this.#reader.pause();
    }
  }

  /**
   * A v2 peer gets a status, and the stream is half-closed and read on for a while: closing with
   * unread bytes would turn into a reset that can overtake the status. A v1 peer gets no byte; a
   * reset is the only sign that a v1 WRITE can be given.
   */
  #refuse(reason: string, tag: number): void {
    const header = this.#header;
    this.#deps.counters.requestsRefused += 1;
    this.#deps.onRefused(header, reason);
    if (!header.acknowledged) {
      this.#ending = header.opcode === Opcode.read ? 'close' : 'reset';
      this.#reader.stop();
      return;
    }
    this.#answer(StatusCode.addressRejected, undefined, 0, 0, tag);
    const body = header.opcode === Opcode.read ? 0 : header.length;
    if (tag >= 0 && body <= REFUSED_BODY_MAX_BYTES) {
      // Framing x1: the connection goes on behind the body.
      if (body > 0) this.#reader.skip(body);
      return;
    }
    this.#ending = 'half-close';
    // NaN stands for more than any number.
    const bounded = body <= DISCARD_MAX_BYTES ? body : DISCARD_MAX_BYTES;
    this.#reader.discard(bounded + DISCARD_BEHIND_BYTES);
  }
}
