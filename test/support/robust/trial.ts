import { TaskState, type TransferOptions } from '@transfer-engine/core';
import type { Chance } from './chance.ts';
import { clip, judgeAftermath, judgeRow, knownMarks, strangers, type Marks } from './oracle.ts';
import type { Initiator, Party } from './parties.ts';
import type { Action, BatchResult, PlanBatch, PlanResult, PlanRow, RowResult } from './programs.ts';

/** What calls may take beyond the bounds of what they ask for; the machine may be busy. */
const MARGIN_MS = 20_000;
const GAP_MAX = 64;
/** The part of a target's memory that {@link serves} uses; requests of rounds stay out of it. */
const SERVICE_BYTES = 256 * 1024;

export interface BatchSpec {
  readonly name: string;
  readonly target: Party;
  /** Key of the initiator's segment for that target. */
  readonly segment: string;
  readonly rows: number;
  readonly rowBytes: readonly [min: number, max: number];
  readonly options: Pick<TransferOptions, 'timeoutMs' | 'stallTimeoutMs' | 'priority'>;
}

/** A batch for the middle of which something is planned: several MiB, in large requests. */
export const large = (chance: Chance) => ({
  rows: chance.int(7, 10),
  rowBytes: [MIB, 1.7 * MIB] as const,
});
export const small = (chance: Chance) => ({
  rows: chance.int(2, 6),
  rowBytes: [1, 192 * 1024] as const,
});

const MIB = 1024 * 1024;

/** One round: what is where before, what is transferred, and what was found afterwards. */
export class Trial {
  readonly marks: Marks;
  readonly findings: string[] = [];
  /** A neighbour could not be sent again, for want of a proof. */
  unproved = false;
  readonly #initiator: Initiator;
  readonly #batches: { readonly spec: BatchSpec; readonly plan: PlanBatch }[];
  /** Offsets in the initiator's memory that no request uses. */
  readonly #gaps: readonly [from: number, to: number][];
  #results: readonly BatchResult[] = [];

  readonly #trustSent: boolean;
  readonly #exact: boolean;

  /**
   * @param options.trustSent what was `sent` to a v1 peer arrives; false where it may be lost
   * @param options.exact targets are alive and tell exactly what they have applied
   */
  constructor(
    initiator: Initiator,
    specs: readonly BatchSpec[],
    marks: Marks,
    chance: Chance,
    { trustSent = true, exact = false } = {},
  ) {
    this.marks = marks;
    this.#trustSent = trustSent;
    this.#exact = exact;
    this.#initiator = initiator;
    const ends = new Map<Party, number>();
    const drafts = specs.flatMap((spec, batch) =>
      Array.from({ length: spec.rows }, () => ({ spec, batch })),
    );
    const placed = chance.shuffled(drafts).map(({ spec, batch }) => {
      const end = ends.get(spec.target) ?? SERVICE_BYTES;
      const remote = end + chance.int(1, GAP_MAX);
      const length = chance.int(...spec.rowBytes);
      ends.set(spec.target, remote + length);
      if (remote + length + GAP_MAX > spec.target.length) throw new Error('too many rows');
      const address = spec.target.place.address + BigInt(remote);
      const opcode = chance.pick(['read', 'write'] as const);
      return { batch, opcode, segment: spec.segment, remote, address, length };
    });
    const rows: PlanRow[][] = specs.map(() => []);
    const gaps: [number, number][] = [];
    let local = SERVICE_BYTES;
    for (const { batch, ...row } of chance.shuffled(placed)) {
      const gap = chance.int(1, GAP_MAX);
      gaps.push([local, local + gap]);
      local += gap;
      rows[batch]?.push({ ...row, local });
      local += row.length;
    }
    gaps.push([local, initiator.length]);
    this.#gaps = gaps;
    this.#batches = specs.map((spec, index) => ({
      spec,
      plan: { name: spec.name, rows: rows[index] ?? [], options: spec.options },
    }));
  }

  /** Bytes of the first batch. */
  get mainBytes(): number {
    return this.#batches[0]?.plan.rows.reduce((sum, { length }) => sum + length, 0) ?? 0;
  }

  get #targets(): Party[] {
    return [...new Set(this.#batches.map(({ spec }) => spec.target))];
  }

  #rowsOf(target: Party): { row: PlanRow; result: RowResult }[] {
    return this.#batches.flatMap(({ spec, plan }, batch) =>
      spec.target === target
        ? plan.rows.map((row, index) => ({
            row,
            result: this.#claimOf(batch, index, row),
          }))
        : [],
    );
  }

  #claimOf(batch: number, index: number, row: PlanRow): RowResult {
    const { rows, durability } = this.result(batch);
    const result = rows[index] as RowResult;
    const isSent = durability === 'sent' && row.opcode === 'write';
    if (this.#trustSent || !isSent || result.state !== TaskState.completed) return result;
    const unknownRanges: [number, number][] = [[0, row.length]];
    const destination = { state: 'unknown', appliedRanges: [], unknownRanges } as const;
    return { ...result, state: TaskState.failed, bytes: 0, destination };
  }

  /**
   * Old content in all destinations and between them, new content in all sources.
   *
   * @param alive targets that can be called; the others are gone
   */
  async prepare(alive: readonly Party[] = this.#targets): Promise<void> {
    const { old, new: fresh } = this.marks;
    const rows = this.#batches.flatMap(({ plan }) => plan.rows);
    await Promise.all([
      this.#initiator.fill([
        { offset: 0, length: this.#initiator.length, mark: old, at: 0 },
        ...rows.map(({ opcode, local, length, remote }) => ({
          ...{ offset: local, length, at: remote },
          mark: opcode === 'write' ? fresh : old,
        })),
      ]),
      ...alive.map((target) =>
        target.fill([
          { offset: 0, length: target.length, mark: old, at: 0 },
          ...this.#batches
            .filter(({ spec }) => spec.target === target)
            .flatMap(({ plan }) => plan.rows)
            .filter(({ opcode }) => opcode === 'read')
            .map(({ remote, length }) => ({
              ...{ offset: remote, length, at: remote },
              mark: fresh,
            })),
        ]),
      ),
    ]);
  }

  /** @param boundMs in which everything has to settle, by its own bounds */
  async run(boundMs: number, action?: Action): Promise<PlanResult> {
    const plan = {
      batches: this.#batches.map(({ plan }) => plan),
      marks: { known: knownMarks(this.marks), poison: this.marks.poison },
      ...(action === undefined ? {} : { action }),
    };
    const result = await this.#initiator.host.call('run', plan, boundMs + MARGIN_MS);
    this.#results = result.batches;
    if (result.actionError !== undefined) {
      this.findings.push(`${action?.kind} rejected with ${result.actionError.stack}`);
    }
    return result;
  }

  /** The requests of a batch ended with one of these codes, or well. */
  expectCodes(batch: number, codes: RegExp, who: 'any' | 'someFailed' | 'allFailed' = 'any'): void {
    const result = this.result(batch);
    for (const { error, state } of result.rows) {
      if (state === TaskState.completed || codes.test(error?.code ?? '')) continue;
      this.findings.push(`${result.name}: ended with ${error?.code}: ${error?.message}`);
    }
    if (who === 'allFailed' && result.completed > 0) {
      this.findings.push(`${result.name}: ${result.completed} requests completed`);
    } else if (who === 'someFailed' && result.failed === 0) {
      this.findings.push(`${result.name}: no request failed`);
    }
  }

  /**
   * The requests of a batch completed.
   *
   * @param onSharedLanes connections that they were on may have been given up for others. On a
   * machine that is too busy a peer may not prove in time that such a connection is at rest; then
   * they say so, which is counted and not wrong.
   */
  expectCompleted(batch: number, onSharedLanes = false): void {
    const result = this.result(batch);
    for (const { error, state, destination } of result.rows) {
      if (state === TaskState.completed) continue;
      const isUnproved = destination?.state === 'unknown' && error?.code === 'ERR_TE_TIMEOUT';
      if (onSharedLanes && isUnproved) {
        this.unproved = true;
      } else {
        const what = `state ${state}, ${error?.code}: ${error?.message}`;
        this.findings.push(`${result.name}: a neighbour did not complete: ${what}`);
      }
    }
  }

  /**
   * Compares all claims about READs with what was in local memory, and looks whether anything was
   * written there since.
   */
  judgeReads(): void {
    for (const [batch, { plan }] of this.#batches.entries()) {
      for (const [index, row] of plan.rows.entries()) {
        const result = this.#results[batch]?.rows[index] as RowResult;
        if (row.opcode === 'read') this.#judge(plan.name, row, result, result.runs);
      }
    }
  }

  /** Nothing of what settled is written to locally, and nothing between the requests ever. */
  async judgeLocalMemory(): Promise<void> {
    const { marks } = this;
    for (const { plan } of this.#batches) {
      for (const { local, length, remote, opcode } of plan.rows) {
        const runs = await this.#initiator.runs({
          ...{ offset: local, length, at: remote },
          marks: knownMarks(marks),
        });
        for (const [at, bytes] of strangers(runs, 0, length, [marks.poison])) {
          this.findings.push(
            `local memory of a settled ${opcode} changed: ${bytes} bytes at ${local + at}`,
          );
        }
      }
    }
    for (const [from, to] of this.#gaps) {
      const runs = await this.#initiator.runs({
        ...{ offset: from, length: to - from },
        marks: knownMarks(marks),
      });
      for (const [at, length] of strangers(runs, 0, to - from, [marks.old])) {
        this.findings.push(`local memory outside of requests changed: ${length} at ${from + at}`);
      }
    }
  }

  /** Compares all claims about WRITEs with a target's memory, and puts something else there. */
  async judgeTarget(target: Party): Promise<void> {
    const { marks } = this;
    const runs = await target.harvest({ marks: knownMarks(marks), mark: marks.probe });
    const rows = this.#rowsOf(target).sort((a, b) => a.row.remote - b.row.remote);
    let gapStart = 0;
    const judgeGap = (to: number) => {
      for (const [at, length, mark] of strangers(runs, gapStart, to, [marks.old])) {
        const where = `${target.process.program} changed outside of requests`;
        this.findings.push(`${where}: ${length} bytes at ${gapStart + at} are ${mark}`);
      }
    };
    for (const { row, result } of rows) {
      judgeGap(row.remote);
      gapStart = row.remote + row.length;
      const own = clip(runs, row.remote, gapStart);
      if (row.opcode === 'write') this.#judge('', row, result, own);
      else if (strangers(own, 0, row.length, [marks.new]).length > 0) {
        this.findings.push(`the source of a READ at ${row.remote} changed`);
      }
    }
    judgeGap(target.length);
  }

  /** What is in a target's memory when nobody is left to claim anything. */
  async judgeOrphan(target: Party): Promise<{ readonly partial: boolean }> {
    const { marks } = this;
    const runs = await target.runs({ marks: knownMarks(marks) });
    const rows = this.#batches.flatMap(({ plan }) => plan.rows);
    rows.sort((a, b) => a.remote - b.remote);
    let end = 0;
    let partial = false;
    const judge = (from: number, to: number, wanted: readonly number[], what: string) => {
      for (const [at, length, mark] of strangers(runs, from, to, wanted)) {
        this.findings.push(`${what} changed: ${length} bytes at ${from + at} are ${mark}`);
      }
    };
    for (const { opcode, remote, length } of rows) {
      judge(end, remote, [marks.old], 'memory outside of requests');
      end = remote + length;
      if (opcode === 'read') judge(remote, end, [marks.new], 'the source of a READ');
      else judge(remote, end, [marks.old, marks.new], 'the destination of a WRITE');
      partial ||= opcode === 'write' && strangers(runs, remote, end, [marks.new]).length > 0;
    }
    judge(end, target.length, [marks.old], 'memory outside of requests');
    return { partial };
  }

  /** What has changed since {@link judgeTarget}, after everything has come to rest. */
  async judgeAftermath(target: Party): Promise<void> {
    const runs = await target.runs({ marks: knownMarks(this.marks) });
    this.findings.push(...judgeAftermath(this.#rowsOf(target), runs, this.marks));
  }

  /** The last result of a batch. */
  result(batch: number): BatchResult {
    return this.#results[batch] as BatchResult;
  }

  /** Requests that may still change, as far as is known. */
  get unknownBytes(): number {
    return this.#results
      .flatMap(({ rows }) => rows)
      .flatMap(({ destination }) => destination?.unknownRanges ?? [])
      .reduce((sum, [, length]) => sum + length, 0);
  }

  #judge(batch: string, row: PlanRow, result: RowResult, runs: RowResult['runs']): void {
    this.findings.push(
      ...judgeRow({ name: batch, row, result, runs, exact: this.#exact }, this.marks),
    );
  }
}

/** Whether the pair can still do what it is for: a WRITE and a READ, compared byte by byte. */
export async function serves(
  initiator: Initiator,
  target: Party,
  segment: string,
  marks: Marks,
  timeoutMs = 10_000,
): Promise<string[]> {
  const half = SERVICE_BYTES / 2;
  const { address } = target.place;
  const fresh = marks.new;
  const parts = (mark: number, other: number) => [
    { offset: 0, length: half, mark, at: 0 },
    { offset: half, length: half, mark: other, at: half },
  ];
  await initiator.fill(parts(fresh, marks.old));
  await target.fill(parts(marks.old, fresh));
  const row = (opcode: 'read' | 'write', at: number) => ({
    ...{ opcode, segment, local: at, remote: at, length: half, address: address + BigInt(at) },
  });
  const result = await initiator.host.call(
    'run',
    {
      batches: [
        { name: 'service', rows: [row('write', 0), row('read', half)], options: { timeoutMs } },
      ],
      marks: { known: knownMarks(marks), poison: marks.poison },
    },
    timeoutMs + MARGIN_MS,
  );
  const [written, read] = result.batches[0]?.rows ?? [];
  const runs = await target.runs({ offset: 0, length: half, marks: knownMarks(marks) });
  const findings: string[] = [];
  for (const { state, error } of [written, read] as RowResult[]) {
    if (state !== TaskState.completed) findings.push(`no service afterwards: ${error?.message}`);
  }
  if (findings.length > 0) return findings;
  return [
    ...judgeRow(
      { name: 'service', row: row('write', 0), result: written as RowResult, runs },
      marks,
    ),
    ...judgeRow(
      {
        ...{ name: 'service', row: row('read', half), result: read as RowResult },
        runs: (read as RowResult).runs,
      },
      marks,
    ),
  ];
}
