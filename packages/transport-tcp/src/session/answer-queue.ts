import type { RegisteredRegion } from '@transfer-engine/core/transport';

/** Bit of a tag: the answer carries the checksum of its payload. */
export const CHECKED = 0x1_0000;

/**
 * Answers of one session in their order. An acknowledgement of a WRITE has no region; the answer
 * to a READ is a window of one. Small as long as it is empty.
 */
export class AnswerQueue {
  readonly #regions: (RegisteredRegion | undefined)[] = [];
  readonly #offsets: number[] = [];
  readonly #lengths: number[] = [];
  /** Status code to send first; -1 for none (framing v1). */
  readonly #codes: number[] = [];
  /** Number of the request and {@link CHECKED}, in framing x1; -1 in the older ones. */
  readonly #tags: number[] = [];
  /** Index of the oldest answer that has not been released. */
  #first = 0;

  /** Answers that have not been released. */
  get size(): number {
    return this.#codes.length - this.#first;
  }

  push(
    code: number,
    region: RegisteredRegion | undefined,
    offset: number,
    length: number,
    tag = -1,
  ): void {
    this.#codes.push(code);
    this.#tags.push(tag);
    this.#regions.push(region);
    this.#offsets.push(offset);
    this.#lengths.push(length);
  }

  /** The columns of answer number `index`, counted from the oldest. */
  code(index: number): number {
    return this.#codes[this.#first + index] as number;
  }

  tag(index: number): number {
    return this.#tags[this.#first + index] as number;
  }

  region(index: number): RegisteredRegion | undefined {
    return this.#regions[this.#first + index];
  }

  offset(index: number): number {
    return this.#offsets[this.#first + index] as number;
  }

  length(index: number): number {
    return this.#lengths[this.#first + index] as number;
  }

  /** Lets go of the oldest answer and its region's pin; returns its payload bytes. */
  release(): number {
    const length = this.length(0);
    this.region(0)?.unpin();
    this.#regions[this.#first] = undefined;
    this.#first += 1;
    if (this.#first === this.#codes.length) this.#truncate(this.#first);
    else if (this.#first >= 1024) this.#truncate(this.#first);
    return length;
  }

  #truncate(count: number): void {
    this.#codes.splice(0, count);
    this.#tags.splice(0, count);
    this.#regions.splice(0, count);
    this.#offsets.splice(0, count);
    this.#lengths.splice(0, count);
    this.#first = 0;
  }
}
