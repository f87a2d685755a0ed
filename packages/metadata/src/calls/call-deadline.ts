/**
 * One signal for everything that may end a call: the caller's signal and a deadline.
 *
 * The signal's reason says which of them it was. `end` must be called when the call is over.
 */
export class CallDeadline {
  readonly #controller = new AbortController();
  readonly #caller: AbortSignal | undefined;
  readonly #timer: NodeJS.Timeout;

  constructor(caller: AbortSignal | undefined, timeoutMs: number, timeoutError: () => Error) {
    this.#caller = caller;
    this.#timer = setTimeout(
      () => this.#controller.abort(timeoutError()),
      Math.min(timeoutMs, 0x7fff_ffff),
    );
    if (caller?.aborted === true) this.#onCallerAbort();
    else caller?.addEventListener('abort', this.#onCallerAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#caller?.removeEventListener('abort', this.#onCallerAbort);
  }

  /** Ends the call now. */
  abort(reason: Error): void {
    this.#controller.abort(reason);
  }

  readonly #onCallerAbort = (): void => this.#controller.abort(this.#caller?.reason);
}
