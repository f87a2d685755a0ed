import { reportOf } from './failures.ts';
import type { BarScreen } from './progress-bar.ts';

/** The part of a stream that output needs; tests give their own. */
export interface TextSink {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** What can stand in an event. Addresses are decimal strings: JSON numbers would lose digits. */
export type EventValue =
  | string
  | number
  | boolean
  | null
  | undefined
  | readonly EventValue[]
  | { readonly [name: string]: EventValue };

export interface OutputEvent {
  readonly event: string;
  readonly [name: string]: EventValue;
}

/**
 * Results of a command: one JSON object a line for programs, or text for people.
 *
 * In JSON mode nothing but events is written to stdout. In text mode an event shows as the text
 * that came with it, or not at all.
 */
export class Output {
  readonly json: boolean;
  readonly #stdout: TextSink;
  readonly #stderr: TextSink;
  #muted = false;

  constructor(json: boolean, stdout: TextSink, stderr: TextSink) {
    this.json = json;
    this.#stdout = stdout;
    this.#stderr = stderr;
  }

  /** For progress bars; only meaningful in text mode. */
  get screen(): BarScreen {
    return {
      isTTY: this.#stdout.isTTY === true,
      write: (text) => {
        if (!this.json && !this.#muted) this.#stdout.write(text);
      },
    };
  }

  event(event: OutputEvent, text?: string): void {
    if (this.#muted) return;
    if (this.json) this.#stdout.write(`${JSON.stringify(event)}\n`);
    else if (text !== undefined) this.#stdout.write(`${text}\n`);
  }

  /** Text for people only. */
  text(text: string): void {
    if (!this.json && !this.#muted) this.#stdout.write(`${text}\n`);
  }

  /** A failure that ends the command: an event on stdout, or a line on stderr. */
  failure(command: string, thrown: unknown): void {
    const error = reportOf(thrown);
    if (this.json) this.event({ event: 'error', error: { ...error } });
    else this.#stderr.write(`${command}: ${error.message}\n`);
  }

  /** Writes nothing any more, as when the reader has gone. */
  mute(): void {
    this.#muted = true;
  }
}
