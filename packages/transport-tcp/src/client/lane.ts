import { connect, type Socket } from 'node:net';
import {
  deferred,
  Outcome,
  type Aftermath,
  type CancelTimer,
  type Clock,
  type EngineError,
  type Slice,
  type SliceRun,
} from '@transfer-engine/core/transport';
import type { TcpCounters } from '../counters.ts';
import { REPLAY, type Fault, type FaultWriter } from '../session/fault.ts';
import { InitiatorMachine } from '../session/initiator-machine.ts';
import { TransmitGroup, type SlabPool } from '../session/transmit-group.ts';
import { CopyFeed, directFeed, type ByteConsumer } from '../socket/byte-feed.ts';
import { writeGroup } from '../socket/group-writer.ts';
import { drainReceived } from '../socket/last-bytes.ts';
import { LazyTimer } from '../socket/lazy-timer.ts';
import { SOCKET_OPTIONS } from '../socket/socket-options.ts';
import type { TcpSettings } from '../tcp-options.ts';
import { ExtendedStatus, HelloKind, type ExtendedAnswer } from '../wire/extended-frames.ts';
import { AbortCall, type ExtendedLane } from './abort-call.ts';
import { connectFault, isPeerReset, reasonOf } from './socket-errors.ts';

/** What hears of a lane's life. */
export interface LaneOwner {
  complete(
    run: SliceRun,
    count: number,
    outcome: Outcome,
    error: EngineError | undefined,
    aftermath: Aftermath | undefined,
  ): void;
  /** Bytes of a large slice of `run` moved. */
  progress(run: SliceRun): void;
  /**
   * `bytes` of what the lane had accepted have ended.
   *
   * @param serviceMs how long the peer worked on them; undefined when that is not known
   */
  laneFinished(lane: Lane, bytes: number, serviceMs: number | undefined): void;
  /** The peer speaks framing x1 on this lane. */
  laneExtended(lane: Lane): void;
  /** The peer ended the lane instead of answering its hello. */
  laneFellBack(lane: Lane): void;
  /** Whether a hello was answered before: then the peer does not fall back. */
  readonly knowsExtended: boolean;
  /** Room became free without an outcome that would have told so. */
  laneFreed(lane: Lane): void;
  /** The lane takes nothing any more; its slices end when its socket has closed. */
  laneRetired(lane: Lane, fault: Fault): void;
  laneClosed(lane: Lane): void;
  /** Whether another lane of the same peer is connected. */
  hasConnectedSibling(lane: Lane): boolean;
}

export interface LaneDeps {
  readonly host: string;
  readonly port: number;
  /** 1: the lane serves one request and ends. 2: it serves until it breaks. */
  readonly version: 1 | 2;
  /** Framing x1 instead of v2. */
  readonly extended?: ExtendedLane | undefined;
  readonly settings: TcpSettings;
  readonly clock: Clock;
  readonly scratch: Buffer;
  readonly slabs: SlabPool;
  readonly counters: TcpCounters;
  readonly faults: FaultWriter;
  readonly owner: LaneOwner;
}

/**
 * `proving`: given up, nothing more is sent, and the peer is asked to be at rest. `flushing`: v1, all
 * is sent.
 */
type LaneState = 'new' | 'connecting' | 'open' | 'flushing' | 'proving' | 'closing' | 'closed';

/** How long slices that are served may end by themselves before a lane of framing x1 is aborted. */
const ABORT_AFTER_MS = 5;
/** An abort is waited for at least this long. */
const ABORT_MIN_MS = 50;
/** Bound of the proof when a deadline ran out, or the route is closed. */
const PROOF_MS = 250;
/** So that numbers modulo 2^16 stay distinct. */
const EXTENDED_SLICES_MAX = 32_768;

/**
 * One connection to a peer, from the first slice to the close: the shell around an
 * {@link InitiatorMachine}. It connects when the first slice is there, and is never connected again.
 */
export class Lane implements ByteConsumer {
  readonly #deps: LaneDeps;
  readonly #machine: InitiatorMachine;
  readonly #group: TransmitGroup;
  readonly #timer: LazyTimer;
  readonly #closed = deferred<void>();
  #state: LaneState = 'new';
  #socket: Socket | undefined;
  #cancelTimers = new Set<CancelTimer>();
  #phaseTimer: CancelTimer | undefined;
  #flushQueued = false;
  #writing = false;
  /** The group that is being written did not go out at once, so its end is news. */
  #delayed = false;
  #opened = false;
  #everybody = false;
  #fault: Fault | undefined;
  #socketError: Error | undefined;
  /** Any byte in either direction. */
  #lastActivityMs = 0;
  /** Since when the answer at the front is being waited for. */
  #waitingSinceMs = 0;
  /** Work was sent on a connection that had been idle, and nothing has come back since. */
  #stale = false;
  /** Bytes that were accepted and whose end was not told to the owner. */
  #unfinishedBytes = 0;
  #abort: AbortCall | undefined;
  /** The socket has closed while the proof is still waited for. */
  #socketClosed = false;
  #fellBack = false;
  #remoteAddress: string | undefined;

  constructor(deps: LaneDeps) {
    this.#deps = deps;
    const { settings, version, extended } = deps;
    const slices =
      extended === undefined
        ? settings.laneSlices
        : Math.min(settings.laneSlices, EXTENDED_SLICES_MAX);
    const limits = {
      version,
      slices: version === 1 ? 1 : slices,
      bytes: version === 1 ? Number.POSITIVE_INFINITY : settings.laneBytes,
      extended: extended && { ...extended, hello: { kind: HelloKind.open, ...extended } },
    };
    this.#machine = new InitiatorMachine(limits, deps.scratch, deps.faults);
    this.#group = new TransmitGroup(deps.slabs);
    this.#timer = new LazyTimer(deps.clock, () => this.#checkDeadlines());
  }

  get outstanding(): number {
    return this.#machine.outstanding;
  }

  get outstandingBytes(): number {
    return this.#machine.outstandingBytes;
  }

  /** Whether it takes nothing any more. */
  get retired(): boolean {
    return this.#state === 'proving' || this.#state === 'closing' || this.#state === 'closed';
  }

  get connected(): boolean {
    return this.#state === 'open';
  }

  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  fits(length: number): boolean {
    return this.#machine.fits(length);
  }

  accept(run: SliceRun, slice: Slice): void {
    this.#machine.accept(run, slice);
    this.#unfinishedBytes += slice.length;
  }

  owns(run: SliceRun): boolean {
    return this.#machine.owns(run);
  }

  /** Starts on what was accepted, at the end of the current turn. */
  wake(): void {
    if (this.#flushQueued || this.#state === 'closing' || this.#state === 'closed') return;
    this.#flushQueued = true;
    process.nextTick(this.#onWake);
  }

  cancel(run: SliceRun, graceMs: number): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    const serving = this.#machine.cancel(run, this.#report);
    if (this.#machine.settle(this.#report)) this.#deps.owner.laneFreed(this);
    this.#tellFinished(undefined);
    if (!serving || this.#state === 'proving') return;
    const { extended, settings } = this.#deps;
    const waitMs = extended === undefined ? graceMs : Math.min(graceMs, ABORT_AFTER_MS);
    const proofMs =
      extended === undefined
        ? settings.retireTimeoutMs
        : Math.max(graceMs - ABORT_AFTER_MS, ABORT_MIN_MS);
    const expire = () => {
      if (this.#machine.servesUnwanted(run)) this.#giveUp(REPLAY, false, proofMs);
    };
    if (!(waitMs > 0)) {
      expire();
      return;
    }
    const timer = this.#deps.clock.schedule(waitMs, () => {
      this.#cancelTimers.delete(timer);
      expire();
    });
    this.#cancelTimers.add(timer);
  }

  /** Ends the lane; what it still owns ends as canceled. A v1 WRITE on its last steps finishes. */
  close(): Promise<void> {
    if (this.#state !== 'flushing') this.#giveUp(this.#deps.faults.closed(), true, PROOF_MS);
    return this.#closed.promise;
  }

  // ---- reading

  receiveTarget(): Buffer {
    return this.#machine.receiveTarget();
  }

  received(count: number): boolean {
    try {
      const { helloAnswered, answers } = this.#machine;
      this.#machine.received(count);
      this.#deps.counters.initiatorBytesIn += count;
      this.#stale = false;
      this.#lastActivityMs = this.#deps.clock.nowMs();
      let serviceMs: number | undefined;
      if (this.#machine.answers !== answers) {
        serviceMs = this.#lastActivityMs - this.#waitingSinceMs;
        this.#waitingSinceMs = this.#lastActivityMs;
      }
      if (helloAnswered !== this.#machine.helloAnswered) this.#deps.owner.laneExtended(this);
      this.#settle(serviceMs);
      this.#tellProgress();
    } catch (thrown) {
      this.#giveUp(this.#deps.faults.internal(thrown), false);
    }
    return true;
  }

  readonly #report = (
    run: SliceRun,
    count: number,
    outcome: Outcome,
    error: EngineError | undefined,
    aftermath: Aftermath | undefined,
  ): void => {
    if (outcome === Outcome.corrupt) this.#deps.counters.initiatorCorrupt += count;
    if (outcome === Outcome.rejected) this.#deps.counters.initiatorRejections += count;
    this.#deps.owner.complete(run, count, outcome, error, aftermath);
  };

  #settle(serviceMs?: number): void {
    const freed = this.#machine.settle(this.#report);
    this.#tellFinished(serviceMs);
    if (freed) this.#deps.owner.laneFreed(this);
    const fault = this.#machine.fault;
    if (fault !== undefined) {
      // A peer of an older framing that breaks it is not waited for.
      const breach = fault.outcome === Outcome.protocolError;
      const proofMs = breach && this.#deps.extended === undefined ? 0 : PROOF_MS;
      this.#giveUp(fault, this.#machine.faultHitsAll, proofMs);
    } else if (this.#state === 'proving') {
      if (!this.#machine.mayChange) this.#endProof();
    } else if (this.#deps.version === 1) {
      this.#endOneShot();
    }
  }

  #tellFinished(serviceMs: number | undefined): void {
    const bytes = this.#unfinishedBytes - this.#machine.outstandingBytes;
    if (bytes === 0) return;
    this.#unfinishedBytes -= bytes;
    this.#deps.owner.laneFinished(this, bytes, serviceMs);
  }

  // ---- writing

  readonly #onWake = (): void => {
    this.#flushQueued = false;
    if (this.#state === 'new') {
      if (this.#machine.outstanding > 0) this.#connect();
    } else if (this.#state === 'open') {
      this.#flush();
    }
  };

  #flush(): void {
    if (this.#writing || this.#state !== 'open') return;
    const machine = this.#machine;
    const group = this.#group;
    const wasIdle = !machine.waiting;
    machine.transmit(group);
    if (group.bytes === 0) {
      // Slices that failed before they were sent may be all there was.
      this.#settle();
      return;
    }
    this.#lastActivityMs = this.#deps.clock.nowMs();
    if (wasIdle) {
      this.#waitingSinceMs = this.#lastActivityMs;
      this.#stale = machine.answers > 0;
    }
    const { settings, counters } = this.#deps;
    this.#timer.ensure(Math.min(settings.statusTimeoutMs, settings.stallTimeoutMs));
    counters.initiatorBytesOut += group.bytes;
    this.#writing = true;
    this.#delayed = writeGroup(this.#socket as Socket, group, this.#onWritten);
  }

  readonly #onWritten = (error?: Error | null): void => {
    if (this.#state !== 'open' && this.#state !== 'proving') return;
    if (error) {
      // The socket's end follows, and settles everything; the peer may have said why before.
      drainReceived(this.#socket as Socket, this);
      return;
    }
    this.#writing = false;
    this.#group.clear();
    const due = this.#machine.answerDue;
    this.#machine.transmitted();
    if (this.#delayed) this.#lastActivityMs = this.#deps.clock.nowMs();
    if (!due && this.#machine.answerDue) this.#waitingSinceMs = this.#lastActivityMs;
    this.#settle();
    this.#tellProgress();
    if (this.#machine.hasWork) this.#flush();
  };

  #tellProgress(): void {
    const run = this.#machine.longRun;
    if (run !== undefined && this.#state === 'open') this.#deps.owner.progress(run);
  }

  // ---- one request a connection (v1)

  #endOneShot(): void {
    const machine = this.#machine;
    if (this.#state !== 'open' || !machine.allWritten) return;
    if (machine.outstanding === 0) {
      this.#giveUp(REPLAY, false);
    } else if (machine.subject?.isRead === false) {
      // The peer's end of stream is the only sign that it has taken ours, and all before it.
      this.#state = 'flushing';
      this.#timer.stop();
      this.#socket?.end();
      this.#phaseTimer = this.#deps.clock.schedule(this.#deps.settings.flushTimeoutMs, () =>
        this.#confirmSent(),
      );
    }
  }

  #confirmSent(): void {
    if (this.#state !== 'flushing') return;
    this.#machine.confirmSent();
    this.#machine.settle(this.#report);
    this.#giveUp(REPLAY, false);
  }

  // ---- life

  #connect(): void {
    const { host, port, settings, counters, clock, faults } = this.#deps;
    this.#state = 'connecting';
    counters.connectionsOpened += 1;
    const options = { host, port, allowHalfOpen: true, ...SOCKET_OPTIONS };
    try {
      this.#socket = connect(
        settings.directRead ? { ...options, onread: directFeed(this) } : options,
      );
    } catch (thrown) {
      // A port or host that cannot even be tried.
      this.#everybody = true;
      this.#fault = faults.connectFailed('ERR_TE_CONNECT_FAILED', reasonOf(thrown), thrown);
      process.nextTick(() => this.#onClose());
      return;
    }
    const socket = this.#socket;
    if (!settings.directRead) new CopyFeed(socket, this);
    this.#phaseTimer = clock.schedule(settings.connectTimeoutMs, () => {
      const reason = `no answer within ${settings.connectTimeoutMs} ms`;
      this.#giveUp(faults.connectFailed('ERR_TE_CONNECT_FAILED', reason), false);
    });
    socket.once('connect', () => {
      this.#phaseTimer?.();
      if (this.#state !== 'connecting') return;
      this.#state = 'open';
      this.#opened = true;
      this.#remoteAddress = socket.remoteAddress;
      this.#flush();
    });
    socket.on('error', (error) => {
      this.#socketError = error;
    });
    socket.once('end', () => this.#onEnd());
    socket.once('close', () => this.#onClose());
  }

  #onEnd(): void {
    this.#machine.endPeer();
    if (this.#state === 'flushing') {
      this.#confirmSent();
    } else if (this.#state === 'proving') {
      this.#endProofUnlessAborting();
    } else if (!this.#fallsBack()) {
      this.#giveUp(this.#lost('the peer closed the connection before it had answered'), false);
    }
  }

  /**
   * A peer that has never answered a hello, and ends this lane instead, does not understand it:
   * its document is out of date.
   */
  #fallsBack(): boolean {
    const { extended, owner } = this.#deps;
    const unknown = extended !== undefined && !this.#machine.helloAnswered;
    if (this.#state !== 'open' || !unknown || owner.knowsExtended) return false;
    this.#fellBack = true;
    this.#machine.fallBack();
    this.#giveUp(REPLAY, true);
    return true;
  }

  /**
   * Stops sending. The slices are reported when the socket refers to no memory any more.
   *
   * @param proofMs how long the peer may take to prove that it applies nothing any more; only
   * waited for when it may
   */
  #giveUp(fault: Fault, everybody: boolean, proofMs = 0): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    if (this.#state === 'proving') {
      if (everybody) {
        this.#fault = fault;
        this.#everybody = true;
      } else if (this.#deps.extended === undefined) {
        this.#endProof();
      }
      return;
    }
    const fresh = this.#state === 'new';
    if (this.#state === 'connecting') everybody = true;
    const provable = proofMs > 0 && this.#state === 'open' && this.#deps.version === 2;
    this.#fault = fault;
    this.#everybody = everybody;
    this.#deps.owner.laneRetired(this, fault);
    if (provable && this.#machine.mayChange) {
      this.#prove(proofMs);
      return;
    }
    this.#state = 'closing';
    if (fresh) process.nextTick(() => this.#onClose());
    else this.#socket?.destroy();
  }

  // ---- proof that the peer is at rest

  #prove(boundMs: number): void {
    this.#state = 'proving';
    this.#timer.stop();
    this.#phaseTimer = this.#deps.clock.schedule(boundMs, () => this.#endProof());
    if (this.#deps.extended === undefined) {
      // An older peer finishes what it has, or what it can, and ends its stream.
      this.#deps.counters.retirements += 1;
      this.#socket?.end();
    } else {
      const { extended, host, port } = this.#deps;
      this.#abort = new AbortCall(
        // A name may stand for several hosts; only one of them has the connection.
        { ...this.#deps, host: this.#remoteAddress ?? host, port },
        { kind: HelloKind.abort, ...extended },
        // An abort can overtake the hello of the connection.
        () => !this.#machine.helloAnswered && !this.#socketClosed,
        (answer) => this.#onAborted(answer),
      );
    }
  }

  #onAborted(answer: ExtendedAnswer | undefined): void {
    this.#abort = undefined;
    if (this.#state !== 'proving') return;
    const machine = this.#machine;
    switch (answer?.code) {
      case ExtendedStatus.aborted:
        this.#deps.counters.abortsAnswered += 1;
        if (!machine.takeFacts(answer)) machine.endPeer();
        break;
      case ExtendedStatus.stale:
      case ExtendedStatus.rejected:
        // The engine that had the memory is gone; or the peer knows of no such connection any more.
        machine.endPeer();
        break;
      default:
        // No answer will come; the end of the connection itself may still do.
        this.#endProofUnlessAborting();
        return;
    }
    this.#endProof();
  }

  /** The connection itself has ended, or no answer comes. What an abort tells is more exact. */
  #endProofUnlessAborting(): void {
    if (this.#state !== 'proving') return;
    if (this.#abort !== undefined) return;
    if (this.#socketClosed || !this.#machine.mayChange) this.#endProof();
  }

  #endProof(): void {
    if (this.#state !== 'proving') return;
    const { extended, counters } = this.#deps;
    if (this.#machine.mayChange) counters.proofsMissed += 1;
    else if (extended === undefined) counters.retirementsProved += 1;
    this.#state = 'closing';
    this.#abort?.cancel();
    if (this.#socketClosed) this.#finish();
    else this.#socket?.destroy();
  }

  #onClose(): void {
    if (this.#state === 'closed') return;
    if (isPeerReset(this.#socketError)) {
      this.#machine.endPeer();
      this.#fallsBack();
    }
    this.#socketClosed = true;
    if (this.#state === 'open' && this.#deps.extended !== undefined && this.#machine.mayChange) {
      // The connection broke, and the peer may live: it is the one to ask.
      this.#giveUp(this.#causeOfClose(), false, PROOF_MS);
    } else {
      this.#endProofUnlessAborting();
    }
    if (this.#state !== 'proving') this.#finish();
  }

  #finish(): void {
    // The end of a proof finishes a lane whose socket has closed.
    if (this.#state === 'closed') return;
    const { owner, counters } = this.#deps;
    let cause = this.#fault ?? this.#causeOfClose();
    if (this.#state !== 'closing') owner.laneRetired(this, cause);
    this.#state = 'closed';
    if (this.#socket !== undefined) counters.connectionsClosed += 1;
    this.#count(cause.outcome);
    this.#phaseTimer?.();
    this.#timer.stop();
    for (const cancel of this.#cancelTimers) cancel();
    this.#cancelTimers.clear();
    this.#group.clear();
    if (this.#fellBack) {
      counters.extendedFallbacks += 1;
      owner.laneFellBack(this);
    }
    if (cause.outcome === Outcome.connectFailed && owner.hasConnectedSibling(this)) cause = REPLAY;
    this.#machine.finish(this.#report, cause, this.#everybody);
    this.#tellFinished(undefined);
    owner.laneClosed(this);
    this.#closed.resolve();
  }

  #causeOfClose(): Fault {
    if (this.#opened) return this.#lost('the connection broke', this.#socketError);
    this.#everybody = true;
    return connectFault(this.#deps.faults, this.#socketError);
  }

  #count(outcome: Outcome): void {
    const { counters } = this.#deps;
    if (outcome === Outcome.connectFailed) counters.connectFailures += 1;
    else if (outcome === Outcome.timeout) counters.initiatorTimeouts += 1;
    else if (outcome === Outcome.protocolError) counters.initiatorProtocolErrors += 1;
  }

  /** The connection ended without an answer; one that had been idle may just have been too old. */
  #lost(how: string, error?: Error): Fault {
    const { faults } = this.#deps;
    const subject = this.#machine.subject;
    if (this.#stale || subject === undefined) return REPLAY;
    return faults.peerLost(
      subject,
      error === undefined ? how : `${how}, ${reasonOf(error)}`,
      error,
    );
  }

  /** @returns milliseconds until the next check; 0 when nothing is waited for */
  #checkDeadlines(): number {
    if (this.#state !== 'open' || this.#machine.outstanding === 0) return 0;
    const { settings, clock, faults } = this.#deps;
    const nowMs = clock.nowMs();
    const stallMs = this.#lastActivityMs + settings.stallTimeoutMs - nowMs;
    const statusMs =
      this.#deps.version === 2 && this.#machine.answerDue
        ? this.#waitingSinceMs + settings.statusTimeoutMs - nowMs
        : Number.POSITIVE_INFINITY;
    if (stallMs > 0 && statusMs > 0) return Math.min(stallMs, statusMs);
    const what =
      statusMs <= 0
        ? `no answer within ${settings.statusTimeoutMs} ms after the request had been sent`
        : `no byte moved in either direction for ${settings.stallTimeoutMs} ms`;
    this.#giveUp(faults.timeout(this.#machine.subject, what), false, PROOF_MS);
    return 0;
  }
}
