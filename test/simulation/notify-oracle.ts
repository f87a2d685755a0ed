import type { Engine, Notification } from '../../packages/core/src/index.ts';
import type { MemoryOracle } from './memory-oracle.ts';

/** A notification that was asked for. */
export interface Notice {
  readonly name: string;
  readonly message: string;
  readonly from: string;
  /** Segment that it is for. */
  readonly to: string;
  /** How the transfer ended; undefined when there is none, or nobody knows. */
  outcome: 'completed' | 'failed' | 'canceled' | undefined;
  /**
   * - `sent`: the sender was told that it arrived.
   * - `due`: it has to be sent; whether it arrived is not told.
   * - `not-due`: the transfer ended in a way that is not told of.
   * - `unsure`: the sender was told that it may not have arrived, or is gone, or nothing began.
   */
  fate: 'sent' | 'due' | 'not-due' | 'unsure';
}

interface Receiver {
  readonly name: string;
  readonly engine: Engine;
  readonly dead: boolean;
}

/** Compares what senders of notifications are told with what arrives. */
export class NotifyOracle {
  readonly #memory: MemoryOracle;
  readonly #notices = new Map<string, Notice>();
  /** What each start of an engine took, by the name of the notification. */
  readonly #taken = new Map<Engine, Map<string, Notification[]>>();
  readonly #gone = new Set<string>();
  #received = 0;

  constructor(memory: MemoryOracle) {
    this.#memory = memory;
  }

  get received(): number {
    return this.#received;
  }

  ask(name: string, from: string, to: string): Notice {
    const message = `from ${from} to ${to}`;
    const notice: Notice = { name, message, from, to, outcome: undefined, fate: 'unsure' };
    this.#notices.set(name, notice);
    return notice;
  }

  /** An engine of this name took what nobody can look at any more. */
  gone(segment: string): void {
    this.#gone.add(segment);
  }

  take({ engine }: Receiver): void {
    let taken = this.#taken.get(engine);
    if (taken === undefined) {
      taken = new Map<string, Notification[]>();
      this.#taken.set(engine, taken);
    }
    for (const notification of engine.takeNotifications()) {
      this.#received += 1;
      const list = taken.get(notification.name);
      if (list === undefined) taken.set(notification.name, [notification]);
      else list.push(notification);
    }
  }

  checkEnd(receivers: readonly Receiver[], calm: boolean): void {
    for (const receiver of receivers) this.take(receiver);
    const arrived = new Map<string, number>();
    for (const [engine, taken] of this.#taken) {
      for (const [name, list] of taken) {
        arrived.set(name, (arrived.get(name) ?? 0) + list.length);
        const times = list.length;
        this.#memory.check(times === 1, `${name} arrived ${times} times at one engine`);
        this.#checkOne(engine, list[0] as Notification);
      }
    }
    for (const notice of this.#notices.values()) {
      const times = arrived.get(notice.name) ?? 0;
      const told = `${notice.name} from ${notice.from} to ${notice.to}`;
      const lost = this.#gone.has(notice.to);
      if (!lost && (notice.fate === 'sent' || (calm && notice.fate === 'due'))) {
        this.#memory.check(times > 0, `${told} was sent, and has not arrived`);
      }
      if (notice.fate === 'not-due') {
        this.#memory.check(times === 0, `${told} arrived, though the transfer did not complete`);
      }
    }
  }

  #checkOne(engine: Engine, { name, message, from, outcome }: Notification): void {
    const notice = this.#notices.get(name);
    const told = `${name} (${message}) with outcome ${outcome} from ${from}`;
    const right = notice?.message === message && notice.to === engine.segmentName;
    this.#memory.check(right, `${told} arrived at ${engine.segmentName}, and nobody sent it there`);
    this.#memory.check(from === undefined || from === notice?.from, `${told}: wrong sender`);
    if (notice?.outcome === undefined || outcome === undefined) return;
    this.#memory.check(outcome === notice.outcome, `${told}: the outcome is ${notice.outcome}`);
  }
}
