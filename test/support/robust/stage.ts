import type { Marks } from './oracle.ts';
import type { Initiator, Party } from './parties.ts';
import { serves, type Trial } from './trial.ts';

const OPEN_MS = 10_000;
/** A call that has no bound of its own to wait for: longer than any bound it may meet. */
const CALL_MS = 30_000;

export interface ConcludeOptions {
  /** Look at targets only when all connections have ended, for a wire that cannot say more. */
  readonly settleFirst?: boolean;
  /** Targets have been looked at already. */
  readonly judged?: boolean;
  /** Compare local memory; false where nothing can be known of it. */
  readonly judgeReads?: boolean;
}

/** An initiator and the segments that it has open. */
export class Stage {
  readonly initiator: Initiator;
  readonly #open = new Set<string>();

  constructor(initiator: Initiator) {
    this.initiator = initiator;
  }

  /** Opens a target's segment under a key; not again when it is open. */
  async open(key: string, target: { readonly place: { readonly name: string } }): Promise<void> {
    if (this.#open.has(key)) return;
    const { name } = target.place;
    await this.initiator.host.call('open', { key, name, timeoutMs: OPEN_MS }, CALL_MS);
    this.#open.add(key);
  }

  /** The plan has closed it. */
  forget(key: string): void {
    this.#open.delete(key);
  }

  async closeAll(): Promise<void> {
    const keys = [...this.#open];
    this.#open.clear();
    await Promise.all(
      keys.map((key) => this.initiator.host.call('closeSegment', { key }, CALL_MS)),
    );
  }

  /**
   * After a round with targets that are alive: holds every claim against every byte, at once and
   * again when all connections have ended; then looks for leaks.
   */
  async conclude(
    trial: Trial,
    targets: readonly Party[],
    { settleFirst = false, judged = false, judgeReads = true }: ConcludeOptions = {},
  ): Promise<string[]> {
    const judge = () => Promise.all(targets.map((target) => trial.judgeTarget(target)));
    if (judgeReads) trial.judgeReads();
    if (!judged && !settleFirst) await judge();
    await this.closeAll();
    const leaks = await this.leaks(targets);
    if (!judged && settleFirst) await judge();
    await Promise.all(targets.map((target) => trial.judgeAftermath(target)));
    await trial.judgeLocalMemory();
    return [...trial.findings, ...leaks];
  }

  async leaks(targets: readonly Party[]): Promise<string[]> {
    const parties: [string, Party][] = [
      ['initiator', this.initiator],
      ...targets.map((target, index): [string, Party] => [`target ${index + 1}`, target]),
    ];
    const found = await Promise.all(parties.map(([who, party]) => party.leaks(who)));
    return found.flat();
  }

  /** Opens a target again and uses it. */
  async serves(target: Party, marks: Marks): Promise<string[]> {
    await this.open('service', target);
    const findings = await serves(this.initiator, target, 'service', marks);
    await this.closeAll();
    return findings;
  }

  async sample(targets: readonly Party[]): Promise<void> {
    for (const party of [this.initiator, ...targets]) await party.sample();
  }

  growth(targets: readonly Party[]): string[] {
    return [
      ...this.initiator.growth('initiator'),
      ...targets.flatMap((target, index) => target.growth(`target ${index + 1}`)),
    ];
  }
}
