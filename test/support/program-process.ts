import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { within } from './waiting.ts';

const START_MS = 30_000;
const programs = new URL('../e2e/programs/', import.meta.url);

/** An error of the other process, as far as it can be sent. */
export interface PlainError {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  readonly code?: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

interface Answer {
  readonly id?: number;
  readonly event?: string;
  readonly result?: unknown;
  readonly error?: PlainError;
}

/** A table of methods with one argument each. */
export type MethodTable<M> = { [K in keyof M]: (argument: never) => unknown };

type ArgumentOf<F> = F extends (...list: infer A) => unknown ? A : never;
type ResultOf<F> = F extends (...list: never) => infer R ? R : never;

export interface ProgramOptions {
  /** Words of a command that runs another one, in front: `ip netns exec x`. */
  readonly prefix?: readonly string[];
}

/** A process that runs one of `test/e2e/programs` and answers calls of its methods. */
export class ProgramProcess<M extends MethodTable<M>> {
  readonly program: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<
    number,
    { resolve: (result: unknown) => void; reject: (error: Error) => void; method: string }
  >();
  readonly #listeners = new Map<string, () => void>();
  readonly #exited: Promise<unknown>;
  readonly #ready: Promise<unknown>;
  #stderr = '';
  #nextId = 1;

  constructor(program: string, { prefix = [] }: ProgramOptions = {}) {
    this.program = program;
    const command = [
      ...prefix,
      process.execPath,
      '--expose-gc',
      fileURLToPath(new URL(program, programs)),
    ];
    this.#child = spawn(command[0] as string, command.slice(1), {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#ready = new Promise((resolve, reject) => {
      this.#waiting.set(0, { resolve, reject, method: 'start' });
    });
    this.#ready.catch(() => undefined);
    this.#exited = once(this.#child, 'exit');
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString()).slice(-10_000);
    });
    this.#child.on('message', (answer: Answer) => this.#settle(answer));
    this.#child.on('exit', (code, signal) => this.#lost(`ended with ${signal ?? code}`));
  }

  /** Resolves when the program takes calls. */
  async ready(): Promise<void> {
    await within(this.#ready, START_MS, `the start of ${this.program}`);
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** @param boundMs the call has to be answered in this time */
  call<K extends keyof M & string>(
    method: K,
    argument: ArgumentOf<M[K]>[0],
    boundMs = START_MS,
  ): Promise<Awaited<ResultOf<M[K]>>> {
    const id = this.#nextId;
    this.#nextId += 1;
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, method });
      this.#child.send({ id, method, argument }, (error) => {
        if (error !== null) this.#settle({ id, error });
      });
    });
    const what = `"${method}" of ${this.program} (${this.pid})`;
    return within(answer, boundMs, what) as Promise<Awaited<ResultOf<M[K]>>>;
  }

  /** Calls `listener` when the program tells of `event`; one for each event. */
  on(event: string, listener: () => void): void {
    this.#listeners.set(event, listener);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends the process at once; resolves when it is gone. */
  async kill(): Promise<void> {
    if (this.running) this.#child.kill('SIGKILL');
    await this.#exited;
  }

  /** Resolves when the process is gone, whoever ended it. */
  async exited(): Promise<void> {
    await this.#exited;
  }

  #settle({ id, event, result, error }: Answer): void {
    if (event !== undefined) this.#listeners.get(event)?.();
    const waiting = id === undefined ? undefined : this.#waiting.get(id);
    if (id === undefined || waiting === undefined) return;
    this.#waiting.delete(id);
    if (error === undefined) waiting.resolve(result);
    else waiting.reject(new RemoteFailure(error));
  }

  #lost(why: string): void {
    for (const { reject, method } of this.#waiting.values()) {
      reject(new Error(`${this.program} (${this.pid}) ${why} during "${method}"\n${this.#stderr}`));
    }
    this.#waiting.clear();
  }
}

/** An error that a call of a program ended with. */
export class RemoteFailure extends Error {
  readonly code: string | undefined;

  constructor(plain: PlainError) {
    super(plain.message);
    this.name = plain.name;
    this.code = plain.code;
    if (plain.stack !== undefined) this.stack = `${plain.stack}\n    in another process`;
  }
}
