import { EngineError } from '../../packages/core/src/base/errors.ts';
import { seededRandom } from '../../packages/core/src/base/random.ts';
import type { DestinationReport, MemoryRegion, TaskStatus } from '../../packages/core/src/index.ts';
import { TaskState } from '../../packages/core/src/base/error-codes.ts';

export const AREA_BYTES = 32 * 1024;

/** Every byte says where it comes from: sources have bytes below 128, and nothing else has. */
export const UNTOUCHED = 0xf0;
/** What users put into their memory as soon as they have it back. */
const POISON = 0xee;
const WITHDRAWN = 0xdd;
export const PATTERN = Buffer.alloc(AREA_BYTES);
{
  const random = seededRandom(1);
  for (let index = 0; index < AREA_BYTES; index += 1) PATTERN[index] = random.uint32() & 0x7f;
}

/** Memory that an engine offers to its peers. */
export interface Area {
  readonly owner: string;
  readonly region: MemoryRegion;
  /** Peers write here, and every byte is written by one request at most; or they only read. */
  readonly writable: boolean;
  readonly bytes: Buffer;
  used: number;
  /** Nothing new may be done to the area: its engine is gone, or it is being unregistered. */
  closed: boolean;
  /** Nobody serves the area any more. */
  gone: boolean;
  /** The content when it was unregistered; its owner has used the memory since. */
  last: Buffer | undefined;
}

/** One request as its user sees it. */
export interface Ask {
  readonly isWrite: boolean;
  /** Undefined for an address where nothing is. */
  readonly area: Area | undefined;
  readonly remoteOffset: number;
  readonly address: bigint;
  readonly length: number;
  readonly local: Buffer;
  readonly localOffset: number;
  /** The target has to refuse it. */
  readonly bad: boolean;
  /** Bytes from the start that no other request writes to. */
  exclusive: number;
  ended: boolean;
  completed: boolean;
  /** What the user was told about the destination; undefined when nothing. */
  report: DestinationReport | undefined;
  /** The destination when the request had ended. */
  after: Buffer | undefined;
}

/** Compares what users are told with what is in memory. */
export class MemoryOracle {
  readonly areas: Area[] = [];
  readonly asks: Ask[] = [];
  #broken: string | undefined;

  /** The first broken promise; undefined when all were kept. */
  get broken(): string | undefined {
    return this.#broken;
  }

  check(condition: boolean, message: string | (() => string)): void {
    if (condition) return;
    this.#broken ??= typeof message === 'string' ? message : message();
  }

  addArea(owner: string, region: MemoryRegion, writable: boolean): Area {
    const { bytes } = region;
    const use = { used: 0, closed: false, gone: false, last: undefined };
    const area: Area = { owner, region, writable, bytes, ...use };
    this.areas.push(area);
    return area;
  }

  /** The owner has its memory back, and uses it. */
  withdrawn(area: Area): void {
    area.gone = true;
    area.last = Buffer.from(area.bytes);
    area.bytes.fill(WITHDRAWN);
  }

  /** One look at a request that may have ended. */
  observe(ask: Ask, status: TaskStatus): void {
    if (ask.ended || status.state === TaskState.waiting) return;
    const completed = status.state === TaskState.completed;
    this.check(
      completed === (status.error === undefined),
      () => `a request is ${status.state}, with error ${String(status.error)}`,
    );
    this.ended(ask, completed, completed ? undefined : status.destination);
  }

  ended(ask: Ask, completed: boolean, report: DestinationReport | undefined): void {
    this.check(!ask.ended, 'a request ended twice');
    ask.ended = true;
    ask.completed = completed;
    ask.report = report;
    const far = this.#far(ask);
    const near = ask.local.subarray(ask.localOffset, ask.localOffset + ask.length);
    if (completed) {
      this.check(!ask.bad, () => `${nameOf(ask)} completed, which the peer has to refuse`);
      const { exclusive, length } = ask;
      const there = ask.isWrite
        ? far?.subarray(0, exclusive).equals(near.subarray(0, exclusive))
        : near.equals(sourceOf(ask));
      this.check(
        there === true || length === 0,
        () => `${nameOf(ask)} completed, and its bytes are not there`,
      );
    }
    const destination = ask.isWrite ? far : near;
    ask.after = destination === undefined ? undefined : Buffer.from(destination);
    if (!completed && ask.area !== undefined) this.#checkReport(ask);
    if (!ask.isWrite && !ask.bad) this.#checkOrigin(ask, near, false);
    // From here on the memory belongs to the user again, who uses it at once.
    near.fill(POISON);
  }

  /** Long after the end: nothing was read from, or written to, memory that was given back. */
  checkEnd(): void {
    for (const ask of this.asks) {
      if (ask.ended) {
        const near = ask.local.subarray(ask.localOffset, ask.localOffset + ask.length);
        this.check(
          near.every((byte) => byte === POISON),
          () => `local memory of ${nameOf(ask)} was written after the request had ended`,
        );
      }
      const far = this.#far(ask);
      if (ask.isWrite && far !== undefined) this.#checkDestination(ask, far);
    }
    for (const area of this.areas) this.#checkArea(area);
  }

  #checkArea(area: Area): void {
    if (area.last !== undefined) {
      this.check(
        area.bytes.every((byte) => byte === WITHDRAWN),
        'memory was written after it had been unregistered',
      );
    }
    const bytes = area.last ?? area.bytes;
    if (area.writable) {
      const rest = bytes.subarray(area.used);
      const clean = rest.every((byte) => byte === UNTOUCHED);
      this.check(clean, 'bytes that nobody named were written');
    } else {
      this.check(bytes.equals(PATTERN), 'memory that peers may only read was written');
    }
  }

  /** What a failed request says about its destination, against what is there. */
  #checkReport(ask: Ask): void {
    const { report, after, length } = ask;
    if (report === undefined || after === undefined || ask.exclusive < length) return;
    const told = `${nameOf(ask)} is told to be ${report.state}`;
    this.check(
      report.state !== 'untouched' || after.every((byte) => byte === UNTOUCHED),
      () => `${told}, and its destination was written`,
    );
    this.check(
      (report.state === 'unknown') === report.unknownRanges.length > 0,
      () => `${told}, with ${report.unknownRanges.length} ranges that are not known`,
    );
    const source = sourceOf(ask);
    for (const [offset, bytes] of report.appliedRanges) {
      const inside = bytes > 0 && offset >= 0 && offset + bytes <= length;
      this.check(inside, () => `${told}, with a range of ${bytes} bytes at ${offset}`);
      const applied = after.subarray(offset, offset + bytes);
      this.check(
        applied.equals(source.subarray(offset, offset + bytes)),
        () => `${told}, and bytes ${offset} to ${offset + bytes} are not there, as it says`,
      );
    }
  }

  #checkDestination(ask: Ask, far: Buffer): void {
    this.#checkOrigin(ask, far, true);
    if (ask.after === undefined || ask.exclusive < ask.length) return;
    const { report } = ask;
    // Somebody who was told nothing must not rely on anything.
    if (!ask.completed && report === undefined) return;
    const expected = Buffer.from(ask.after);
    for (const [offset, bytes] of report?.unknownRanges ?? []) {
      far.copy(expected, offset, offset, offset + bytes);
    }
    this.check(
      expected.equals(far),
      () =>
        `the destination of ${nameOf(ask)} changed after it had ended ` +
        `(${ask.completed ? 'completed' : report?.state}), which nobody said`,
    );
  }

  /** Every byte of a destination is the source's, or was not touched. */
  #checkOrigin(ask: Ask, destination: Buffer, mayShare: boolean): void {
    const source = sourceOf(ask);
    for (let at = 0; at < destination.length; at += 1) {
      const byte = destination[at] as number;
      if (byte === source[at] || byte === UNTOUCHED) continue;
      if (mayShare && at >= ask.exclusive && byte < 0x80) continue;
      const origin =
        byte === POISON ? 'the source was read after the request had ended' : `${byte} is there`;
      this.check(false, `byte ${at} of ${nameOf(ask)}: ${origin}`);
      return;
    }
  }

  #far({ area, remoteOffset, length, bad }: Ask): Buffer | undefined {
    if (area === undefined || bad) return undefined;
    return (area.last ?? area.bytes).subarray(remoteOffset, remoteOffset + length);
  }
}

/** What the user of a single request knows about the destination. */
export function reportOf(error: unknown, length: number): DestinationReport | undefined {
  if (!(error instanceof EngineError)) return undefined;
  const { destination } = error.details;
  if (destination !== 'untouched' && destination !== 'quiescent' && destination !== 'unknown') {
    return undefined;
  }
  const unknownRanges = destination === 'unknown' ? [[0, length] as const] : [];
  return { state: destination, appliedRanges: [], unknownRanges };
}

function sourceOf({ isWrite, localOffset, remoteOffset, length }: Ask): Buffer {
  const from = isWrite ? localOffset : remoteOffset;
  return PATTERN.subarray(from, from + length);
}

export function nameOf({ isWrite, length, address }: Ask): string {
  return `a ${isWrite ? 'write' : 'read'} of ${length} bytes at ${address.toString(16)}`;
}
