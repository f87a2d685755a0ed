/** One state to write; called when its turn has come, so it can take the newest facts. */
export type Write = () => Promise<void>;

/**
 * Writes states of one thing, one after the other, and skips those that are out of date before
 * their turn has come.
 *
 * Requests that arrive while a write runs are joined into one more write, of the latest of them.
 * Everybody's promise settles with a write that started after the request was made, so it contains
 * the requested state or a later one.
 */
export class LatestWriter {
  #running: Promise<void> | undefined;
  #next: { write: Write; readonly done: Promise<void> } | undefined;

  request(write: Write): Promise<void> {
    if (this.#next !== undefined) {
      this.#next.write = write;
      return this.#next.done;
    }
    if (this.#running === undefined) return this.#start(write);
    const startNext = (): Promise<void> => {
      const latest = this.#next?.write ?? write;
      this.#next = undefined;
      return this.#start(latest);
    };
    // Whether the running write succeeds is the business of those who wait for it.
    const done = this.#running.then(startNext, startNext);
    this.#next = { write, done };
    return done;
  }

  #start(write: Write): Promise<void> {
    const running = runWrite(write).finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
    this.#running = running;
    return running;
  }
}

/** A throw in `write` itself is a failed write, not a failed request. */
async function runWrite(write: Write): Promise<void> {
  await write();
}
