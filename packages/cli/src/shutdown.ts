import { constants } from 'node:os';

const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** Time that clean-up may take after a signal, or after a command that failed. */
const CLEAN_UP_MS = 3_000;

type CleanUp = () => Promise<void> | void;

/**
 * What has to be ended with a command, in the reverse order of its beginning.
 *
 * A stop signal aborts `signal`, runs the clean-up within a bound and exits with 128 + n; a second
 * one exits at once.
 */
export class Shutdown {
  readonly #controller = new AbortController();
  readonly #cleanUps: CleanUp[] = [];
  readonly #handlers: [NodeJS.Signals, () => void][] = [];
  #stopped: Promise<never> | undefined;

  /** Aborted when a stop signal came. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Listens for stop signals from now on; `exit` ends the process. */
  listen(exit: (code: number) => never): void {
    for (const name of STOP_SIGNALS) {
      const handler = () => this.stop(128 + constants.signals[name], exit);
      process.on(name, handler);
      this.#handlers.push([name, handler]);
    }
  }

  add(cleanUp: CleanUp): void {
    this.#cleanUps.push(cleanUp);
  }

  /** Cleans up and exits with `code`; at once when it is the second call. */
  stop(code: number, exit: (code: number) => never): void {
    if (this.#stopped !== undefined) exit(code);
    this.#stopped = (async () => {
      this.#controller.abort();
      await this.run();
      return exit(code);
    })();
  }

  /** Resolves never when the process is being stopped: its exit code is decided elsewhere. */
  async yieldToStop(): Promise<void> {
    await this.#stopped;
  }

  /** Runs the clean-up, each part once, all within the bound. */
  async run(): Promise<void> {
    const deadline = Date.now() + CLEAN_UP_MS;
    for (let next = this.#cleanUps.pop(); next !== undefined; next = this.#cleanUps.pop()) {
      await within(Math.max(0, deadline - Date.now()), next);
    }
  }

  dispose(): void {
    for (const [name, handler] of this.#handlers) process.removeListener(name, handler);
    this.#handlers.length = 0;
  }
}

/** A clean-up that fails or hangs must not keep the others from running. */
async function within(ms: number, work: CleanUp): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const bound = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  try {
    await Promise.race([Promise.resolve(work()).catch(() => undefined), bound]);
  } finally {
    clearTimeout(timer);
  }
}
