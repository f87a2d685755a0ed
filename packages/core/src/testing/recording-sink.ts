import type { EngineError } from '../base/errors.ts';
import type { Aftermath, Outcome } from '../transport/outcome.ts';
import type { SliceRun } from '../transport/slice.ts';
import type { CompletionSink, Route } from '../transport/transport.ts';

/** Outcome of one slice, as a sink saw it. */
export interface RecordedOutcome {
  readonly outcome: Outcome;
  readonly error: EngineError | undefined;
  /** What is known about the destination; `quiescent` when the transport did not say. */
  readonly aftermath: Aftermath;
}

/** A sink that remembers everything, slice by slice. For tests; it grows without bound. */
export class RecordingSink implements CompletionSink {
  readonly #outcomes = new Map<SliceRun, RecordedOutcome[]>();
  readonly #listeners = new Set<() => void>();
  readonly #progressed = new Map<SliceRun, number>();
  #calls = 0;
  #total = 0;
  readonly #readyRoutes: Route[] = [];

  /** Outcomes of a run, in the order of their arrival: index = slice. */
  of(run: SliceRun): readonly RecordedOutcome[] {
    return this.#outcomes.get(run) ?? [];
  }

  /** Outcome numbers of a run. */
  codesOf(run: SliceRun): Outcome[] {
    return this.of(run).map((record) => record.outcome);
  }

  /** Outcomes of all runs. */
  get total(): number {
    return this.#total;
  }

  /** Calls of `complete`; one call may end many slices. */
  get calls(): number {
    return this.#calls;
  }

  /** Routes that said that they are ready, in order. */
  get readyRoutes(): readonly Route[] {
    return this.#readyRoutes;
  }

  /** Calls back after every call of the sink, until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when the condition holds; it is looked at now and after every call of the sink. */
  until(condition: () => boolean): Promise<void> {
    if (condition()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const stop = this.onChange(() => {
        try {
          if (!condition()) return;
        } catch (error) {
          stop();
          reject(error);
          return;
        }
        stop();
        resolve();
      });
    });
  }

  /** Resolves when `count` slices of the run have ended. */
  settled(run: SliceRun, count: number): Promise<void> {
    return this.until(() => this.of(run).length >= count);
  }

  complete(
    run: SliceRun,
    count: number,
    outcome: Outcome,
    error?: EngineError,
    aftermath: boolean | Aftermath = true,
  ): void {
    this.#calls += 1;
    this.#total += count;
    let records = this.#outcomes.get(run);
    if (records === undefined) this.#outcomes.set(run, (records = []));
    const record: RecordedOutcome = { outcome, error, aftermath: spellOut(aftermath) };
    for (let i = 0; i < count; i += 1) records.push(record);
    this.#changed();
  }

  progress(run: SliceRun): void {
    this.#progressed.set(run, this.progressOf(run) + 1);
    this.#changed();
  }

  /** How often a run was said to move although none of its slices ended. */
  progressOf(run: SliceRun): number {
    return this.#progressed.get(run) ?? 0;
  }

  ready(route: Route): void {
    this.#readyRoutes.push(route);
    this.#changed();
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}

function spellOut(aftermath: boolean | Aftermath): Aftermath {
  if (typeof aftermath === 'object') return aftermath;
  return { destination: aftermath ? 'quiescent' : 'unknown' };
}
