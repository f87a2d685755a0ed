import type { Exchange, ExchangeOptions } from '../control/control-client.ts';
import { peerLost } from '../control/control-errors.ts';
import type { ControlHandler } from '../control/control-handlers.ts';
import type { ControlLinks, ControlListener } from '../control/control-links.ts';
import type { ControlServerOptions } from '../control/control-server.ts';
import { EngineError } from '../base/errors.ts';
import { formatHostPort, FrameType } from '../wire/index.ts';
import type { Span } from './sim-network.ts';
import type { SimProcess } from './sim-process.ts';
import type { SimStoreHost } from './sim-store.ts';

export interface SimControlOptions {
  /** One way, in milliseconds. Default [0.1, 2]. */
  readonly latencyMs?: Span;
  /** By exchange: no connection is made. Default 0. */
  readonly connectFail?: number;
  /** By exchange: the connection is reset before the question has arrived. Default 0. */
  readonly questionLoss?: number;
  /** By exchange: the question has arrived, and the connection is reset before the answer. Default 0. */
  readonly answerLoss?: number;
  /** By exchange: takes `slowMs` longer. Default 0. */
  readonly slow?: number;
  /** Default [10, 1,000]. */
  readonly slowMs?: Span;
}

export interface SimControlHost extends SimStoreHost {
  partitioned(first: string, second: string): boolean;
}

interface Listener {
  readonly process: SimProcess;
  readonly handle: ControlHandler;
  answered: number;
  rejected: number;
}

/** First port of those that are given out to engines that ask for none. */
const FIRST_PORT = 20_000;
const KINDS: ReadonlyMap<FrameType, string> = new Map([
  [FrameType.connection, 'handshake'],
  [FrameType.metadata, 'metadata'],
  [FrameType.notify, 'notify'],
  [FrameType.probe, 'probe'],
]);

/** The control ports of a world: exchanges of frames between processes, with everything that goes wrong. */
export class SimControl {
  readonly #host: SimControlHost;
  readonly #options: Required<SimControlOptions>;
  readonly #listeners = new Map<string, Listener>();
  #nextPort = FIRST_PORT;

  constructor(host: SimControlHost, options: SimControlOptions = {}) {
    this.#host = host;
    this.#options = {
      latencyMs: [0.1, 2],
      connectFail: 0,
      questionLoss: 0,
      answerLoss: 0,
      slow: 0,
      slowMs: [10, 1_000],
      ...options,
    };
  }

  /** Listens, and dials, in the name of one process. */
  links(process: SimProcess): ControlLinks {
    return {
      listen: (options) => this.#listen(process, options),
      exchange: (...call) => this.#exchange(process, ...call),
    };
  }

  async #listen(process: SimProcess, options: ControlServerOptions): Promise<ControlListener> {
    const { port: choice = 0, handle } = options;
    let port = typeof choice === 'number' ? choice : choice.min;
    if (port === 0) {
      port = this.#nextPort;
      this.#nextPort += 1;
    }
    const key = formatHostPort(process.name, port);
    if (this.#listeners.get(key)?.process.alive === true) {
      throw new EngineError('ERR_TE_PORT_UNAVAILABLE', `${key} is taken`);
    }
    const listener: Listener = { process, handle, answered: 0, rejected: 0 };
    this.#listeners.set(key, listener);
    return await Promise.resolve({
      port,
      stats: () => {
        const { answered, rejected } = listener;
        return { connections: 0, answered, rejected, rejections: {} };
      },
      close: () => {
        if (this.#listeners.get(key) === listener) this.#listeners.delete(key);
        return Promise.resolve();
      },
    });
  }

  #exchange(process: SimProcess, ...call: Parameters<Exchange>): Promise<string> {
    const [host, port, type, json, options] = call;
    const key = formatHostPort(host, port);
    const question: Question = { process, host, key, type, json, options };
    return new Promise((resolve, reject) => {
      const { signal } = options;
      if (signal?.aborted === true) {
        reject(signal.reason as Error);
        return;
      }
      new SimExchange(this, question, resolve, reject).start();
    });
  }

  /** For the exchanges of this file. */
  get host(): SimControlHost {
    return this.#host;
  }

  get options(): Required<SimControlOptions> {
    return this.#options;
  }

  find(key: string): Listener | undefined {
    const listener = this.#listeners.get(key);
    return listener?.process.alive === true ? listener : undefined;
  }
}

interface Question {
  readonly process: SimProcess;
  readonly host: string;
  readonly key: string;
  readonly type: FrameType;
  readonly json: string;
  readonly options: ExchangeOptions;
}

/** One question on its way, and its answer. Settles once. */
class SimExchange {
  readonly #control: SimControl;
  readonly #question: Question;
  readonly #resolve: (text: string) => void;
  readonly #reject: (error: Error) => void;
  readonly #cancels: (() => void)[] = [];
  #settled = false;

  constructor(
    control: SimControl,
    question: Question,
    resolve: (text: string) => void,
    reject: (error: Error) => void,
  ) {
    this.#control = control;
    this.#question = question;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  start(): void {
    const { signal, timeoutMs = 10_000, connectTimeoutMs = 5_000 } = this.#question.options;
    const onAbort = (): void => this.#fail(signal?.reason as Error, 3);
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#cancels.push(() => signal?.removeEventListener('abort', onAbort));
    this.#after(timeoutMs, () => this.#timeout(timeoutMs));
    const { host, options } = this.#control;
    if (this.#cut) {
      // Nobody says no, and nobody says yes.
      this.#after(connectTimeoutMs, () => this.#timeout(connectTimeoutMs));
      return;
    }
    const fails = host.chance(options.connectFail);
    let delayMs = host.draw(options.latencyMs);
    if (host.chance(options.slow)) delayMs += host.draw(options.slowMs);
    this.#after(delayMs, () => this.#arrive(fails));
  }

  get #cut(): boolean {
    const { process, host } = this.#question;
    return this.#control.host.partitioned(process.name, host);
  }

  #arrive(fails: boolean): void {
    const { key, type, json } = this.#question;
    const { host, options } = this.#control;
    // A partition swallows the question; the bound of the exchange ends the wait.
    if (this.#cut) return;
    const listener = this.#control.find(key);
    if (fails || listener === undefined) {
      const message = `no connection to the engine at ${key}; check that it runs`;
      this.#fail(new EngineError('ERR_TE_CONNECT_FAILED', message, { details: { peer: key } }), 2);
      return;
    }
    if (host.chance(options.questionLoss)) {
      this.#fail(peerLost(key, type, 0, undefined), 4);
      return;
    }
    const answerLost = host.chance(options.answerLoss);
    listener.handle(type, json).then(
      ({ json: text, refusal }) => {
        if (!listener.process.alive) return;
        if (refusal === undefined) listener.answered += 1;
        else listener.rejected += 1;
        this.#answer(text, answerLost);
      },
      () => {
        listener.rejected += 1;
        this.#answer('', true);
      },
    );
  }

  #answer(text: string, lost: boolean): void {
    const { key, type, options } = this.#question;
    const { maxFrameBytes = Number.POSITIVE_INFINITY } = options;
    this.#after(this.#control.host.draw(this.#control.options.latencyMs), () => {
      if (this.#cut) return;
      if (lost) this.#fail(peerLost(key, type, 0, undefined), 1);
      else if (text.length > maxFrameBytes) {
        this.#fail(new EngineError('ERR_TE_FRAME_TOO_LARGE', `the answer of ${key}`), 5);
      } else {
        this.#finish(0);
        this.#resolve(text);
      }
    });
  }

  #timeout(ms: number): void {
    const { key } = this.#question;
    const message = `the engine at ${key} did not answer within ${ms} ms`;
    this.#fail(new EngineError('ERR_TE_TIMEOUT', message, { details: { peer: key } }), 6);
  }

  #after(delayMs: number, callback: () => void): void {
    if (this.#settled) return;
    // By the clock of the asking process: with it, everything that it asks is gone.
    this.#cancels.push(this.#question.process.clock.schedule(delayMs, callback));
  }

  #fail(error: Error, how: number): void {
    if (this.#settled) return;
    this.#finish(how);
    this.#reject(error);
  }

  #finish(how: number): void {
    if (this.#settled) return;
    this.#settled = true;
    const { process, key, type } = this.#question;
    this.#control.host.note(KINDS.get(type) ?? 'exchange', process.name, key, how);
    for (const cancel of this.#cancels) cancel();
  }
}
