/** Senders that are remembered; the one not heard of for longest is forgotten first. */
const SENDERS_MAX = 4_096;
/** How far back a notification of one sender may be repeated. */
const WINDOW = 1_024;

interface Sender {
  /** Everything up to here was received, or is too old to be repeated. */
  floor: number;
  readonly above: Set<number>;
}

/**
 * Remembers which notifications were received, in bounded memory.
 *
 * Senders count their notifications, and repeat one only until it is answered, so a window behind
 * the newest one is enough.
 */
export class ReceivedIds {
  /** In the order of the last notification. */
  readonly #senders = new Map<string, Sender>();

  has(instance: string, sequence: number): boolean {
    const sender = this.#senders.get(instance);
    return sender !== undefined && (sequence <= sender.floor || sender.above.has(sequence));
  }

  add(instance: string, sequence: number): void {
    const sender = this.#senders.get(instance) ?? { floor: 0, above: new Set<number>() };
    this.#senders.delete(instance);
    this.#senders.set(instance, sender);
    if (this.#senders.size > SENDERS_MAX) {
      for (const oldest of this.#senders.keys()) {
        this.#senders.delete(oldest);
        break;
      }
    }
    sender.above.add(sequence);
    if (sequence - sender.floor > 2 * WINDOW) {
      sender.floor = sequence - WINDOW;
      for (const old of sender.above) if (old <= sender.floor) sender.above.delete(old);
    }
    while (sender.above.delete(sender.floor + 1)) sender.floor += 1;
  }
}
