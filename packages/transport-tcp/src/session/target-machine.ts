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
import { encodeStatusFrame, STATUS_FRAME_BYTES, StatusCode } from '../wire/status-frame.ts';
import { AnswerQueue } from './answer-queue.ts';
import { FrameReader, type FrameOwner } from './frame-reader.ts';
import { windowOf } from './memory-window.ts';
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

/** What is to be done with the connection once all answers are written. */
export type Ending = 'half-close' | 'close' | 'reset';

export interface TargetDeps {
  readonly registry: MemoryRegistry;
  readonly scratch: Buffer;
  readonly counters: TcpCounters;
  /** Called for each refused request, with the reason. */
  readonly onRefused: (header: SessionHeader, reason: string) => void;
}

/**
 * The target's side of one data connection, without the connection.
 *
 * Requests are served in their order. A WRITE is acknowledged when its last byte is in the region;
 * a READ is answered out of the region's own memory. A region is pinned while a request uses it.
 */
export class TargetMachine implements FrameOwner {
  readonly #deps: TargetDeps;
  readonly #reader: FrameReader;
  readonly #header = new SessionHeader();
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

  constructor(deps: TargetDeps) {
    this.#deps = deps;
    this.#reader = new FrameReader(SESSION_HEADER_BYTES, deps.scratch, this);
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
    return this.#reader.atBoundary || this.#ending !== undefined;
  }

  /** Whether all that may be read behind a refused request has been read. */
  get discarded(): boolean {
    return this.#ending !== undefined && this.#reader.stopped;
  }

  get inHeader(): boolean {
    return this.#reader.inPrefix;
  }

  get inPayload(): boolean {
    return this.#reader.inPayload;
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
    const header = this.#header;
    decodeSessionHeader(bytes, at, header);
    // Joined words are NaN when they do not fit a number; such a range is in no region.
    if (!(header.length > 0) || !(header.address >= 0)) {
      this.#refuse(header.length === 0 ? 'length 0' : 'no such range');
      return;
    }
    if (header.opcode !== Opcode.read && header.opcode !== Opcode.write) {
      this.#refuse('unknown opcode');
      return;
    }
    const access = header.opcode === Opcode.write ? 'write' : 'read';
    const region = this.#deps.registry.resolveRemote(header.address, header.length, access);
    if (region === undefined) {
      this.#refuse('not in one registered region, or not permitted');
      return;
    }
    const offset = header.address - region.address;
    const present =
      access === 'write'
        ? this.#reader.expectPayload(region.store, offset, header.length)
        : windowOf(region.store, offset, header.length) !== undefined;
    if (!present) {
      this.#refuse('the region has lost its memory');
      return;
    }
    region.pin();
    if (access === 'write') {
      this.#writing = region;
      this.#writeAcknowledged = header.acknowledged;
    } else {
      this.#reader.expectPrefix();
      this.#answer(header.acknowledged ? StatusCode.ok : NO_STATUS, region, offset, header.length);
    }
  }

  handlePayloadEnd(): void {
    this.#writing?.unpin();
    this.#writing = undefined;
    this.#deps.counters.writesServed += 1;
    this.#reader.expectPrefix();
    if (this.#writeAcknowledged) this.#answer(StatusCode.ok, undefined, 0, 0);
  }

  handleMemoryLost(): void {
    this.#broken = true;
    this.#reader.stop();
  }

  // ---- sending

  /**
   * Fills a group with what is to be sent next. `transmitted` must be called when it was written,
   * and before the next group is filled.
   */
  transmit(group: TransmitGroup): void {
    while (this.hasWork) {
      const code = this.#answers.code(this.#handed);
      if (!this.#statusSent && code !== NO_STATUS) {
        const at = group.reserve(STATUS_FRAME_BYTES);
        if (at < 0) break;
        encodeStatusFrame(group.view, at, code);
      }
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
    this.#reader.stop();
    this.#writing?.unpin();
    this.#writing = undefined;
    this.#handed = 0;
    while (this.#answers.size > 0) this.#answers.release();
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

  #answer(
    code: number,
    region: RegisteredRegion | undefined,
    offset: number,
    length: number,
  ): void {
    this.#answers.push(code, region, offset, length);
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
  #refuse(reason: string): void {
    const header = this.#header;
    this.#deps.counters.requestsRefused += 1;
    this.#deps.onRefused(header, reason);
    if (header.acknowledged) {
      this.#answers.push(StatusCode.addressRejected, undefined, 0, 0);
      this.#ending = 'half-close';
      const declared = header.opcode === Opcode.read ? 0 : header.length;
      // NaN stands for more than any number.
      const body = declared <= DISCARD_MAX_BYTES ? declared : DISCARD_MAX_BYTES;
      this.#reader.discard(body + DISCARD_BEHIND_BYTES);
    } else {
      this.#ending = header.opcode === Opcode.read ? 'close' : 'reset';
      this.#reader.stop();
    }
  }
}
