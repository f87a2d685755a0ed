import type { TransferOptions } from '../../packages/core/src/index.ts';
import type { Actor, EngineWorld, Watched } from './engine-world.ts';
import { AREA_BYTES, PATTERN, UNTOUCHED, type Area, type Ask } from './memory-oracle.ts';
import type { Notice } from './notify-oracle.ts';

/** Far more than anything needs while everybody answers. */
const PATIENCE_MS = 600_000;

/** One call of a user, with everything that is known about it. */
export interface Call {
  readonly actor: Actor;
  readonly asks: Ask[];
  readonly options: TransferOptions;
  readonly notice: Notice | undefined;
  readonly abort: AbortController | undefined;
  readonly reason: Error;
  readonly local: Buffer;
  watched: Watched | undefined;
  deadlineMs: number;
  /** The user has ended it. */
  canceled: boolean;
}

/** Draws what users ask for. */
export class CallMaker {
  readonly #sim: EngineWorld;

  constructor(sim: EngineWorld) {
    this.#sim = sim;
  }

  /**
   * Requests from one engine to another, and how they are asked; undefined when there is no room.
   *
   * @param rowsMax requests at most
   */
  prepare(actor: Actor, target: Actor, rowsMax: number): Call | undefined {
    const sim = this.#sim;
    const rows = 1 + sim.below(rowsMax);
    const asks: Ask[] = [];
    const local = Buffer.from(PATTERN);
    let localOffset = sim.below(3);
    const longest = sim.chance(0.3) ? sim.sliceBytes * 5 : 600;
    const shares = rowsMax > 1 && sim.chance(0.1);
    for (let row = 0; row < rows; row += 1) {
      const length = sim.chance(0.05) ? 0 : 1 + sim.below(longest);
      if (localOffset + length > local.length) break;
      const stale = sim.chance(0.5) && !asks.some(({ bad }) => bad);
      const ask = this.#place(target, local, localOffset, length, stale);
      if (ask === undefined) break;
      if (!ask.isWrite) local.fill(UNTOUCHED, localOffset, localOffset + length);
      asks.push(ask);
      localOffset += length;
      const twin = shares ? this.#twinOf(ask, localOffset) : undefined;
      if (twin === undefined) continue;
      asks.push(twin);
      localOffset += twin.length;
    }
    if (asks.length === 0) return undefined;
    const timeoutMs = sim.calm ? PATIENCE_MS : this.#drawTimeoutMs();
    const notice = sim.chance(0.4) ? this.#noticeOf(actor, target) : undefined;
    const abort = sim.chance(0.3) ? new AbortController() : undefined;
    const on = sim.chance(0.6) ? 'settled' : 'completed';
    return {
      actor,
      asks,
      notice,
      abort,
      reason: new Error('the user has changed their mind'),
      local,
      watched: undefined,
      deadlineMs: 0,
      canceled: false,
      options: {
        timeoutMs,
        priority: sim.pick(['high', 'medium', 'low']),
        ...(shares && { overlap: 'allow' as const }),
        ...(!sim.calm && sim.chance(0.3) && { stallTimeoutMs: 20 + sim.below(500) }),
        ...(abort && { signal: abort.signal }),
        ...(notice && { notify: { name: notice.name, message: notice.message, on } }),
      },
    };
  }

  /** Another request for the second half of what a request writes to. */
  #twinOf(ask: Ask, localOffset: number): Ask | undefined {
    const { isWrite, bad, length, local, remoteOffset, address } = ask;
    const half = Math.floor(length / 2);
    const fits = localOffset + length - half <= local.length;
    if (!isWrite || bad || half === 0 || !fits || this.#sim.chance(0.5)) return undefined;
    ask.exclusive = half;
    return {
      ...ask,
      localOffset,
      length: length - half,
      remoteOffset: remoteOffset + half,
      address: address + BigInt(half),
      exclusive: 0,
    };
  }

  #noticeOf(actor: Actor, target: Actor): Notice {
    const sim = this.#sim;
    const to = sim.world.segmentName(target.name);
    return sim.notified.ask(`t${sim.number()}`, actor.engine.segmentName, to);
  }

  #drawTimeoutMs(): number {
    const sim = this.#sim;
    return sim.chance(0.3) ? 1 + sim.below(40) : 20 + sim.below(3000);
  }

  /** Finds a place at the target that nobody else writes to. */
  #place(
    target: Actor,
    local: Buffer,
    localOffset: number,
    length: number,
    stale: boolean,
  ): Ask | undefined {
    const sim = this.#sim;
    const isWrite = sim.chance(0.6);
    const areas = target.areas.filter(({ writable, closed }) => writable === isWrite && !closed);
    const area = sim.chance(0.03) ? undefined : areas.at(-1);
    const common = { isWrite, length, local, localOffset, exclusive: length };
    const fresh = { ended: false, completed: false, report: undefined, after: undefined };
    if (area === undefined) {
      // Nobody has memory there, or it was there once.
      const old = sim.memory.areas.filter(({ gone }) => gone);
      const gone: Area | undefined = stale && old.length > 0 ? sim.pick(old) : undefined;
      const address = gone?.region.address ?? BigInt(sim.number() * AREA_BYTES);
      return { ...common, ...fresh, area: gone, remoteOffset: 0, address, bad: length > 0 };
    }
    const remoteOffset = isWrite ? area.used : sim.below(area.bytes.length - length + 1);
    if (remoteOffset + length > area.bytes.length) return undefined;
    if (isWrite) area.used += length;
    const address = area.region.address + BigInt(remoteOffset);
    return { ...common, ...fresh, area, remoteOffset, address, bad: false };
  }
}
