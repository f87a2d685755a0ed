const TICK_MS = 8;
const SLOTS = 512;

/** Something that wants to hear when its time has come. The wheel owns the link fields. */
export abstract class WheelEntry {
  /** When to expire, in the clock's milliseconds; set by {@link DeadlineWheel.add}. */
  expiresAtMs = 0;
  wheelSlot = -1;
  wheelNext: WheelEntry | undefined;
  wheelPrevious: WheelEntry | undefined;
  /** Called once, after the entry was taken out. It may be added again. */
  abstract onExpire(nowMs: number): void;
}

/**
 * Many deadlines for the price of one timer.
 *
 * Adding and removing touch only their neighbours, whatever the number of entries. An entry
 * expires at its time or up to one tick (8 ms) later, never earlier.
 */
export class DeadlineWheel {
  readonly #slots: (WheelEntry | undefined)[] = new Array<WheelEntry | undefined>(SLOTS).fill(
    undefined,
  );
  #tick: number;
  #size = 0;
  /** A lower bound of the times at which `advance` has something to do. */
  #earliestMs = Number.POSITIVE_INFINITY;

  constructor(nowMs: number) {
    this.#tick = Math.floor(nowMs / TICK_MS);
  }

  get size(): number {
    return this.#size;
  }

  add(entry: WheelEntry, expiresAtMs: number): void {
    if (entry.wheelSlot >= 0) this.remove(entry);
    entry.expiresAtMs = expiresAtMs;
    const tick = Math.max(Math.ceil(expiresAtMs / TICK_MS), this.#tick + 1);
    const slot = tick % SLOTS;
    const head = this.#slots[slot];
    entry.wheelSlot = slot;
    entry.wheelPrevious = undefined;
    entry.wheelNext = head;
    if (head !== undefined) head.wheelPrevious = entry;
    this.#slots[slot] = entry;
    this.#size += 1;
    this.#earliestMs = Math.min(this.#earliestMs, tick * TICK_MS);
  }

  /** Does nothing when the entry is not in the wheel. */
  remove(entry: WheelEntry): void {
    if (entry.wheelSlot < 0) return;
    if (entry.wheelPrevious === undefined) this.#slots[entry.wheelSlot] = entry.wheelNext;
    else entry.wheelPrevious.wheelNext = entry.wheelNext;
    if (entry.wheelNext !== undefined) entry.wheelNext.wheelPrevious = entry.wheelPrevious;
    entry.wheelSlot = -1;
    entry.wheelNext = undefined;
    entry.wheelPrevious = undefined;
    this.#size -= 1;
  }

  /** Expires what is due. An entry that is added meanwhile expires at the next call at the earliest. */
  advance(nowMs: number): void {
    const target = Math.floor(nowMs / TICK_MS);
    if (target <= this.#tick || nowMs < this.#earliestMs) return;
    const first = this.#tick + 1;
    const last = Math.min(target, this.#tick + SLOTS);
    this.#tick = target;
    for (let tick = first; tick <= last; tick += 1) this.#expireSlot(tick % SLOTS, nowMs);
    if (nowMs >= this.#earliestMs) this.#earliestMs = this.#scan();
  }

  /**
   * When to call {@link advance} next, or undefined while the wheel is empty. May be early (an
   * entry was removed, or is more than one turn of the wheel away), never late.
   */
  nextMs(): number | undefined {
    return this.#size === 0 ? undefined : Math.max(this.#earliestMs, (this.#tick + 1) * TICK_MS);
  }

  /** The first time at which a slot in use comes round. */
  #scan(): number {
    for (let distance = 1; distance <= SLOTS; distance += 1) {
      const tick = this.#tick + distance;
      if (this.#slots[tick % SLOTS] !== undefined) return tick * TICK_MS;
    }
    return Number.POSITIVE_INFINITY;
  }

  #expireSlot(slot: number, nowMs: number): void {
    let due: WheelEntry[] | undefined;
    for (let entry = this.#slots[slot]; entry !== undefined; entry = entry.wheelNext) {
      if (entry.expiresAtMs <= nowMs) (due ??= []).push(entry);
    }
    if (due === undefined) return;
    for (const entry of due) {
      // An earlier expiry may have removed this one.
      if (entry.wheelSlot !== slot || entry.expiresAtMs > nowMs) continue;
      this.remove(entry);
      entry.onExpire(nowMs);
    }
  }
}
