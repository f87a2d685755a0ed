/** Calls that have not ended, so that closing can end them all. */
export class OpenCalls {
  readonly #running = new Set<AbortController>();
  #closed: Error | undefined;

  /**
   * Makes a call with a signal that aborts when the caller's does, or when {@link close} is called.
   */
  async run<T>(
    signal: AbortSignal | undefined,
    call: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    if (this.#closed !== undefined) throw this.#closed;
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(signal?.reason);
    if (signal?.aborted === true) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#running.add(controller);
    try {
      return await call(controller.signal);
    } finally {
      this.#running.delete(controller);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Ends what runs, and refuses what comes, with this error. */
  close(reason: Error): void {
    this.#closed ??= reason;
    for (const controller of this.#running) controller.abort(reason);
  }
}
