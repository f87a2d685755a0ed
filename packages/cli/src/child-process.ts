import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { EngineError } from '@transfer-engine/core';
import type { CommandContext } from './command.ts';
import { linesOf } from './stdin-lines.ts';

const BIN = fileURLToPath(new URL('../bin/te.js', import.meta.url));
/** Time that a child has to end by itself when it is asked to. */
const END_MS = 2_000;

export type ChildEvent = Readonly<Record<string, unknown>> & { readonly event: string };

interface Waiter {
  readonly event: string;
  resolve(event: ChildEvent): void;
  reject(error: EngineError): void;
}

/**
 * Another `te` process that this one started: commands go to its standard input, events come from
 * its standard output, logs pass through.
 *
 * It ends with this process whatever happens, because the end of its input is its end.
 */
export class TeProcess {
  readonly #role: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #waiters: Waiter[] = [];
  readonly #unclaimed: ChildEvent[] = [];
  #failure: EngineError | undefined;
  #listener: (event: ChildEvent) => void = () => undefined;

  constructor(role: string, argv: readonly string[], context: CommandContext) {
    this.#role = role;
    this.#child = spawn(
      process.execPath,
      [BIN, ...argv, '--json', `--log-level=${context.logLevel}`],
      { stdio: ['pipe', 'pipe', 'inherit'], env: { ...context.environment } },
    );
    this.#ended = new Promise((resolve) => {
      this.#child.once('error', (cause) => {
        this.#fail(`could not be started: ${cause.message}`);
        resolve();
      });
      this.#child.once('close', (code, signal) => {
        this.#fail(`ended (${signal ?? `exit code ${code}`})`);
        resolve();
      });
    });
    // A child that is gone shows by its 'close'; a failing pipe says nothing more.
    this.#child.stdin?.on('error', () => undefined);
    void this.#read().catch((thrown: unknown) => this.#fail(String(thrown)));
    context.shutdown.add(() => this.end());
  }

  /** Called for every "progress" event. */
  onProgress(listener: (event: ChildEvent) => void): void {
    this.#listener = listener;
  }

  /**
   * The next event of this name, also one that came before.
   *
   * @throws EngineError when the child reports an error, ends, or takes longer than `timeoutMs`
   */
  async next(event: string, timeoutMs: number): Promise<ChildEvent> {
    const index = this.#unclaimed.findIndex((one) => one.event === event);
    const [early] = index === -1 ? [] : this.#unclaimed.splice(index, 1);
    if (early !== undefined) return early;
    if (this.#failure !== undefined) throw this.#failure;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<ChildEvent>((resolve, reject) => {
        this.#waiters.push({ event, resolve, reject });
        timer = setTimeout(() => {
          reject(
            new EngineError(
              'ERR_TE_TIMEOUT',
              `the ${this.#role} process did not report "${event}" within ${timeoutMs} ms`,
            ),
          );
        }, timeoutMs);
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends a command line. */
  send(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  async ask(line: string, event: string, timeoutMs: number): Promise<ChildEvent> {
    const answer = this.next(event, timeoutMs);
    this.send(line);
    return await answer;
  }

  /** Ends the input of the child, then, if it does not go, the child. */
  async end(): Promise<void> {
    this.#child.stdin?.end();
    const soft = setTimeout(() => this.#child.kill('SIGTERM'), END_MS / 2);
    const hard = setTimeout(() => this.#child.kill('SIGKILL'), END_MS);
    await this.#ended;
    clearTimeout(soft);
    clearTimeout(hard);
  }

  async #read(): Promise<void> {
    const { stdout } = this.#child;
    if (stdout === null) return;
    for await (const line of linesOf(stdout)) {
      const event = line === undefined ? undefined : parseEvent(line);
      if (event === undefined) this.#fail(`printed what is no event: ${line?.slice(0, 200) ?? ''}`);
      else this.#dispatch(event);
    }
  }

  #dispatch(event: ChildEvent): void {
    if (event.event === 'error') {
      this.#fail(`failed: ${describe(event['error'])}`);
      return;
    }
    const index = this.#waiters.findIndex((one) => one.event === event.event);
    const [waiter] = index === -1 ? [] : this.#waiters.splice(index, 1);
    if (waiter !== undefined) waiter.resolve(event);
    else if (event.event === 'progress') this.#listener(event);
    else this.#unclaimed.push(event);
  }

  #fail(what: string): void {
    this.#failure ??= new EngineError('ERR_TE_PEER_LOST', `the ${this.#role} process ${what}`);
    for (const waiter of this.#waiters.splice(0)) waiter.reject(this.#failure);
  }
}

function parseEvent(line: string): ChildEvent | undefined {
  try {
    const parsed: unknown = JSON.parse(line);
    if (typeof parsed !== 'object' || parsed === null || !('event' in parsed)) return undefined;
    return typeof parsed.event === 'string' ? { ...parsed, event: parsed.event } : undefined;
  } catch {
    return undefined;
  }
}

function describe(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'message' in error) {
    return String(error.message);
  }
  return JSON.stringify(error) ?? 'unknown';
}

/** A member of an event that has to be a number. */
export function numberOf(event: ChildEvent, member: string): number {
  const value = event[member];
  if (typeof value === 'number') return value;
  throw malformed(event, member, 'a number');
}

/** A member of an event that has to be a text. */
export function textOf(event: ChildEvent, member: string): string {
  const value = event[member];
  if (typeof value === 'string') return value;
  throw malformed(event, member, 'a text');
}

function malformed(event: ChildEvent, member: string, wanted: string): EngineError {
  return new EngineError(
    'ERR_TE_PROTOCOL',
    `event "${event.event}" of a child process has no member "${member}" that is ${wanted}`,
  );
}
