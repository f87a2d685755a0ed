import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const BIN = fileURLToPath(new URL('../../packages/cli/bin/te.js', import.meta.url));
/** Bound of every wait; a test that meets it has failed. */
const WAIT_MS = 20_000;

export type TeEvent = Record<string, unknown> & { event: string };

export interface TeExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface TeOptions {
  readonly environment?: Readonly<Record<string, string>>;
}

/** A `te` process under test: real bin, real pipes. */
export class Te implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly lines: string[] = [];
  readonly exited: Promise<TeExit>;
  stderr = '';
  #taken = 0;
  #wake: () => void = () => undefined;
  #ended = false;

  constructor(argv: readonly string[], options: TeOptions = {}) {
    this.child = spawn(process.execPath, [BIN, ...argv], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...options.environment },
    });
    this.child.stdin?.on('error', () => undefined);
    this.child.stderr?.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
    if (this.child.stdout !== null) {
      createInterface({ input: this.child.stdout }).on('line', (line) => {
        this.lines.push(line);
        this.#wake();
      });
    }
    this.exited = new Promise((resolve) => {
      this.child.once('close', (code, signal) => {
        this.#ended = true;
        this.#wake();
        resolve({ code, signal });
      });
    });
  }

  /** The next line as an event. */
  async next(): Promise<TeEvent> {
    const deadline = Date.now() + WAIT_MS;
    while (this.#taken >= this.lines.length) {
      if (this.#ended || Date.now() > deadline) {
        throw new Error(`no further line; stderr: ${this.stderr}; lines: ${this.lines.join('\n')}`);
      }
      await this.#news(deadline);
    }
    this.#taken += 1;
    return toEvent(this.lines[this.#taken - 1] ?? '');
  }

  async #news(deadline: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, deadline - Date.now() + 1);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  send(line: string): void {
    this.child.stdin?.write(`${line}\n`);
  }

  /** Sends a line and takes the one line that answers it. */
  async ask(line: string): Promise<TeEvent> {
    this.send(line);
    return await this.next();
  }

  async quit(): Promise<TeExit> {
    this.child.stdin?.end();
    return await this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL');
    await this.exited;
  }
}

export interface TeRun extends TeExit {
  readonly stdout: string;
  readonly stderr: string;
  readonly events: TeEvent[];
}

/** Runs `te` to its end; `events` are the lines of stdout when all of them are JSON. */
export async function runTe(argv: readonly string[], options: TeOptions = {}): Promise<TeRun> {
  await using te = new Te(argv, options);
  te.child.stdin?.end();
  const exit = await te.exited;
  const json = te.lines.every((line) => line.startsWith('{'));
  return {
    ...exit,
    stdout: te.lines.join('\n'),
    stderr: te.stderr,
    events: json ? te.lines.map(toEvent) : [],
  };
}

/** A `te target` that has said that it is ready. */
export class TeTarget extends Te {
  ready: TeEvent = { event: 'none' };

  get segment(): string {
    return String(this.ready['segment']);
  }
}

/** Starts a target and waits until it is ready. */
export async function startTarget(
  argv: readonly string[],
  options: TeOptions = {},
): Promise<TeTarget> {
  const target = new TeTarget(['target', '--json', ...argv], options);
  try {
    target.ready = await target.next();
    return target;
  } catch (error) {
    await target[Symbol.asyncDispose]();
    throw error;
  }
}

function toEvent(line: string): TeEvent {
  return JSON.parse(line) as TeEvent;
}

/** ((offset + i) * 131 + seed) & 255, as the contract of the CLI defines it. */
export function pattern(length: number, seed: number, offset = 0): Buffer {
  return Buffer.from(Array.from({ length }, (_, i) => ((offset + i) * 131 + seed) & 0xff));
}
