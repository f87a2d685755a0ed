import type { Socket } from 'node:net';
import {
  deferred,
  type CancelTimer,
  type Clock,
  type Logger,
  type RegisteredRegion,
} from '@transfer-engine/core/transport';
import type { TcpCounters } from '../counters.ts';
import { TargetMachine, type TargetDeps } from '../session/target-machine.ts';
import { TransmitGroup, type SlabPool } from '../session/transmit-group.ts';
import { rewrapAccepted } from '../socket/accepted-socket.ts';
import { CopyFeed, resumeFeed, type ByteConsumer } from '../socket/byte-feed.ts';
import { writeGroup } from '../socket/group-writer.ts';
import { LazyTimer } from '../socket/lazy-timer.ts';
import type { TcpSettings } from '../tcp-options.ts';

export interface SessionDeps {
  readonly target: TargetDeps;
  readonly settings: TcpSettings;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly slabs: SlabPool;
  readonly counters: TcpCounters;
  readonly onClosed: (session: ServerSession) => void;
}

/** One accepted connection: the shell around a {@link TargetMachine}. */
export class ServerSession implements ByteConsumer {
  /** Address of the peer, for logs. */
  readonly peer: string;
  readonly #deps: SessionDeps;
  readonly #machine: TargetMachine;
  readonly #group: TransmitGroup;
  readonly #timer: LazyTimer;
  readonly #closed = deferred<void>();
  readonly #socket: Socket;
  readonly #feed: CopyFeed | undefined;
  #writing = false;
  /** The group that is being written did not go out at once, so its end is news. */
  #delayed = false;
  #inputEnded = false;
  #ended = false;
  #done = false;
  #discardTimer: CancelTimer | undefined;
  #lastActivityMs: number;
  #headerSinceMs = 0;
  #inHeader = false;

  constructor(accepted: Socket, deps: SessionDeps) {
    this.#deps = deps;
    this.peer = `${accepted.remoteAddress ?? 'unknown'}:${accepted.remotePort ?? 0}`;
    this.#machine = new TargetMachine(deps.target, () => this.destroy());
    this.#group = new TransmitGroup(deps.slabs);
    this.#timer = new LazyTimer(deps.clock, () => this.#checkDeadlines());
    this.#lastActivityMs = deps.clock.nowMs();
    // Errors come on whichever object owns the handle, also while it changes hands.
    accepted.on('error', () => undefined);
    const direct = deps.settings.directRead ? rewrapAccepted(accepted, this) : undefined;
    const socket = direct ?? accepted;
    this.#socket = socket;
    socket.on('error', (error) => {
      deps.logger.debug({ peer: this.peer, err: error }, 'TCP session failed');
    });
    socket.once('end', () => this.#onEnd());
    socket.once('close', () => this.#onClose());
    if (direct === undefined) {
      this.#feed = new CopyFeed(socket, this);
      socket.resume();
    }
  }

  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  uses(region: RegisteredRegion): boolean {
    return this.#machine.uses(region);
  }

  destroy(): void {
    this.#done = true;
    this.#socket.destroy();
  }

  receiveTarget(): Buffer {
    return this.#machine.receiveTarget();
  }

  received(count: number): boolean {
    if (this.#done) return false;
    try {
      this.#machine.received(count);
      this.#deps.counters.targetBytesIn += count;
      this.#lastActivityMs = this.#deps.clock.nowMs();
      this.#advance();
    } catch (thrown) {
      this.#fail(thrown);
    }
    return !this.#machine.paused;
  }

  /** Sends what there is to send, and ends when there is a reason to. */
  #advance(): void {
    const machine = this.#machine;
    if (!this.#writing && machine.hasWork) this.#flush();
    if (machine.broken) {
      this.destroy();
      return;
    }
    if (!machine.answering) this.#endIfDue();
    this.#watch();
  }

  #flush(): void {
    this.#machine.transmit(this.#group);
    if (this.#group.bytes === 0) return;
    this.#deps.counters.targetBytesOut += this.#group.bytes;
    this.#writing = true;
    this.#delayed = writeGroup(this.#socket, this.#group, this.#onWritten);
  }

  readonly #onWritten = (error?: Error | null): void => {
    // After an error or a destroy the socket's end follows, and lets go of the regions.
    if (error || this.#done) return;
    try {
      this.#writing = false;
      this.#group.clear();
      if (this.#delayed) this.#lastActivityMs = this.#deps.clock.nowMs();
      const paused = this.#machine.paused;
      this.#machine.transmitted();
      this.#advance();
      if (paused && !this.#machine.paused && !this.#done) resumeFeed(this.#socket, this.#feed);
    } catch (thrown) {
      this.#fail(thrown);
    }
  };

  /** Everything is answered: follows the end of the input, or that of a refused request. */
  #endIfDue(): void {
    const ending = this.#machine.ending;
    if (ending === 'reset') {
      this.#done = true;
      this.#socket.resetAndDestroy();
    } else if (ending === 'close' || this.#inputEnded) {
      this.destroy();
    } else if (ending === 'half-close' && !this.#ended) {
      this.#ended = true;
      this.#socket.end();
      const { clock, settings } = this.#deps;
      this.#discardTimer = clock.schedule(settings.discardTimeoutMs, () => this.destroy());
    } else if (ending === 'half-close' && this.#machine.discarded) {
      this.destroy();
    }
  }

  #onEnd(): void {
    this.#inputEnded = true;
    if (!this.#machine.atBoundary) {
      this.#deps.counters.sessionsTruncated += 1;
      this.#deps.logger.debug({ peer: this.peer }, 'TCP session ended inside a request');
      this.destroy();
    } else if (!this.#machine.answering) {
      this.destroy();
    }
  }

  #onClose(): void {
    this.#done = true;
    this.#timer.stop();
    this.#discardTimer?.();
    this.#group.clear();
    this.#machine.close();
    this.#deps.onClosed(this);
    this.#closed.resolve();
  }

  #fail(thrown: unknown): void {
    this.#deps.logger.error({ peer: this.peer, err: thrown }, 'TCP session failed by a defect');
    this.destroy();
  }

  // ---- bounds

  /** Sees to it that a peer which keeps us waiting is looked at in time. */
  #watch(): void {
    const machine = this.#machine;
    const { settings } = this.#deps;
    if (machine.inHeader) {
      if (!this.#inHeader) this.#headerSinceMs = this.#lastActivityMs;
      this.#inHeader = true;
      this.#timer.ensure(Math.min(settings.headerTimeoutMs, settings.payloadTimeoutMs));
    } else {
      this.#inHeader = false;
      if (machine.inPayload || machine.answering) this.#timer.ensure(settings.payloadTimeoutMs);
    }
  }

  /** @returns milliseconds until the next check; 0 when nothing is waited for */
  #checkDeadlines(): number {
    const machine = this.#machine;
    const { settings, clock, counters, logger } = this.#deps;
    if (this.#done) return 0;
    const nowMs = clock.nowMs();
    let leftMs = Number.POSITIVE_INFINITY;
    if (machine.inHeader) leftMs = this.#headerSinceMs + settings.headerTimeoutMs - nowMs;
    if (machine.inPayload || machine.answering) {
      leftMs = Math.min(leftMs, this.#lastActivityMs + settings.payloadTimeoutMs - nowMs);
    }
    if (leftMs > 0) return Number.isFinite(leftMs) ? leftMs : 0;
    counters.sessionsExpired += 1;
    logger.debug({ peer: this.peer }, 'TCP session was too slow and is closed');
    this.destroy();
    return 0;
  }
}
