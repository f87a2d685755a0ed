import type { ProcessClock } from './sim-clock.ts';

/** One start of one engine in a simulated world. */
export interface SimProcess {
  /** Host name of the engine. */
  readonly name: string;
  readonly clock: ProcessClock;
  readonly alive: boolean;
}
