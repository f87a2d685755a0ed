import { channel } from 'node:diagnostics_channel';
import type { Clock } from '../base/clock.ts';
import type { EngineError } from '../base/errors.ts';
import { FlightRecorder, type FlightEvent } from '../base/flight-recorder.ts';
import type { RetryStep, Submission, TransferEvents } from '../transfer/index.ts';
import { OUTCOME_NAMES, type Outcome } from '../transport/outcome.ts';
import type { Route } from '../transport/transport.ts';

/**
 * Channels of `node:diagnostics_channel` on which every engine of the process publishes. Messages
 * are plain objects; they are only made while somebody listens.
 */
export const CHANNELS = {
  /** `{ engine, peer, ranges, bytes, priority }` */
  submitted: channel('transfer-engine:submitted'),
  /** `{ engine, peer, ranges, failed, bytes, elapsedMs, transport, attempts }` */
  settled: channel('transfer-engine:settled'),
  /** `{ engine, peer, transport, outcome, step, address }` */
  slice: channel('transfer-engine:slice-failed'),
  /** `{ engine, peer, from, to }` */
  failover: channel('transfer-engine:failover'),
  /** `{ engine, peer, transport, state: 'paused' | 'resumed', pauseMs }` */
  route: channel('transfer-engine:route'),
  /** `{ engine, peer, event: 'opened' | 'closed' | 'restarted' | 'moved' }` */
  peer: channel('transfer-engine:peer'),
} as const;

const EVENTS_KEPT = 256;
/** Events attached to an error. */
const EVENTS_IN_ERROR = 16;

const FLIGHTS = new WeakMap<Error, readonly FlightEvent[]>();

/**
 * What an engine had been through when an error was made: its last events (retries, failovers,
 * pauses, restarts), the oldest first. Empty for errors that no engine made.
 */
export function flightOf(error: unknown): readonly FlightEvent[] {
  return error instanceof Error ? (FLIGHTS.get(error) ?? []) : [];
}

/** Tells the world, and the flight recorder, what the machine does. */
export class Telemetry implements TransferEvents {
  engine = '';
  readonly #clock: Clock;
  readonly #recorder = new FlightRecorder(EVENTS_KEPT);

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  submitted(submission: Submission): void {
    if (!CHANNELS.submitted.hasSubscribers) return;
    CHANNELS.submitted.publish({
      engine: this.engine,
      peer: submission.peer.name,
      ranges: submission.columns.count,
      bytes: submission.totalBytes,
      priority: submission.priority,
    });
  }

  settled(submission: Submission): void {
    const { firstError } = submission;
    if (firstError !== undefined) {
      const facts = {
        peer: submission.peer.name,
        failed: submission.rowsFailed,
        code: firstError.code,
      };
      this.#record('failed', facts);
      this.attachFlight(firstError);
    }
    if (!CHANNELS.settled.hasSubscribers) return;
    CHANNELS.settled.publish({
      engine: this.engine,
      peer: submission.peer.name,
      ranges: submission.columns.count,
      failed: submission.rowsFailed,
      bytes: submission.bytes,
      elapsedMs: submission.settledMs - submission.startedMs,
      transport: submission.usedTransport,
      attempts: submission.attempts,
    });
  }

  sliceFailed(
    submission: Submission,
    route: Route,
    outcome: Outcome,
    step: RetryStep,
    row: number,
  ): void {
    const peer = submission.peer.name;
    const facts = { peer, transport: route.transport.name, outcome: OUTCOME_NAMES[outcome], step };
    if (step !== 'replay') this.#record('slice-failed', facts);
    if (!CHANNELS.slice.hasSubscribers) return;
    CHANNELS.slice.publish({ engine: this.engine, ...facts, address: submission.addressOf(row) });
  }

  failover(submission: Submission, from: Route, to: Route): void {
    const facts = { peer: submission.peer.name, from: from.transport.name, to: to.transport.name };
    this.#record('failover', facts);
    if (CHANNELS.failover.hasSubscribers)
      CHANNELS.failover.publish({ engine: this.engine, ...facts });
  }

  routePaused(route: Route, pauseMs: number): void {
    this.#route(route, 'paused', pauseMs);
  }

  routeResumed(route: Route): void {
    this.#route(route, 'resumed', 0);
  }

  peer(name: string, event: 'opened' | 'closed' | 'restarted' | 'moved'): void {
    this.#record(`peer-${event}`, { peer: name });
    if (CHANNELS.peer.hasSubscribers)
      CHANNELS.peer.publish({ engine: this.engine, peer: name, event });
  }

  /** Lets {@link flightOf} find the last events by this error. */
  attachFlight(error: EngineError): void {
    if (!FLIGHTS.has(error)) FLIGHTS.set(error, this.#recorder.last(EVENTS_IN_ERROR));
  }

  #route(route: Route, state: 'paused' | 'resumed', pauseMs: number): void {
    const facts = {
      peer: route.peer.descriptor.name,
      transport: route.transport.name,
      state,
      pauseMs: Math.round(pauseMs),
    };
    this.#record(`route-${state}`, facts);
    if (CHANNELS.route.hasSubscribers) CHANNELS.route.publish({ engine: this.engine, ...facts });
  }

  #record(kind: string, facts: FlightEvent['facts']): void {
    this.#recorder.record({ atMs: this.#clock.nowMs(), kind, facts });
  }
}
