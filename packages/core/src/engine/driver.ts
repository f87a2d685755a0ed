import type { CancelTimer, Clock } from '../base/clock.ts';
import type { TransferMachine } from '../transfer/transfer-machine.ts';

/**
 * Runs the machine: once after whatever asked for it in this turn of the event loop, and when a
 * deadline comes.
 */
export class Driver {
  readonly #clock: Clock;
  #machine: TransferMachine | undefined;
  #scheduled = false;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #cancelTimer: CancelTimer | undefined;
  #stopped = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  start(machine: TransferMachine): void {
    this.#machine = machine;
  }

  /** Asks for a run after the current callback; many wishes make one run. */
  readonly wake = (): void => {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    process.nextTick(this.#run);
  };

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  readonly #run = (): void => {
    this.#scheduled = false;
    if (this.#stopped || this.#machine === undefined) return;
    const nowMs = this.#clock.nowMs();
    this.#machine.pump(nowMs);
    this.#arm(nowMs);
  };

  #arm(nowMs: number): void {
    const nextMs = this.#machine?.nextDeadlineMs();
    // A timer that comes too early does no harm and is cheaper than moving it.
    if (nextMs === undefined || nextMs >= this.#timerAtMs) return;
    this.#cancelTimer?.();
    this.#timerAtMs = nextMs;
    this.#cancelTimer = this.#clock.schedule(Math.max(nextMs - nowMs, 1), () => {
      this.#timerAtMs = Number.POSITIVE_INFINITY;
      this.#cancelTimer = undefined;
      this.#run();
    });
  }
}
