/** One thing that happened, with the facts that a person needs to understand it. */
export interface FlightEvent {
  /** The clock's milliseconds. */
  readonly atMs: number;
  /** What happened: "retry", "failover", "route-paused", … */
  readonly kind: string;
  readonly facts: Readonly<Record<string, string | number | boolean>>;
}

/** Keeps the last events, to be attached to errors. */
export class FlightRecorder {
  readonly #events: FlightEvent[] = [];
  readonly #capacity: number;
  #next = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  record(event: FlightEvent): void {
    this.#events[this.#next] = event;
    this.#next = (this.#next + 1) % this.#capacity;
  }

  /** The last events, the oldest first. */
  last(count: number = this.#capacity): FlightEvent[] {
    const size = this.#events.length;
    const wanted = Math.min(count, size);
    const start = size < this.#capacity ? size - wanted : this.#next - wanted + size;
    return Array.from(
      { length: wanted },
      (_, index) => this.#events[(start + index) % size] as FlightEvent,
    );
  }
}
