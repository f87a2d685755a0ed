import { TaskState } from '@transfer-engine/core';
import type { PlanRow, RowResult, Run } from './programs.ts';

/** Contents of one round. Those of other rounds are different, so that late bytes are told. */
export interface Marks {
  /** In every destination before the round. */
  readonly old: number;
  /** In every source. */
  readonly new: number;
  /** Put over both sides of a request when it has settled, on the initiator. */
  readonly poison: number;
  /** Put over the whole memory of a target when it has been looked at. */
  readonly probe: number;
}

const MARKS_A_ROUND = 4;
const ROUNDS_WITH_MARKS_OF_THEIR_OWN = 60;

export function marksOf(round: number): Marks {
  const first = 1 + MARKS_A_ROUND * (round % ROUNDS_WITH_MARKS_OF_THEIR_OWN);
  return { old: first, new: first + 1, poison: first + 2, probe: first + 3 };
}

export const knownMarks = (marks: Marks): number[] => [
  marks.old,
  marks.new,
  marks.poison,
  marks.probe,
];

/** What of `runs` lies in [from, to), counted from `from`. */
export function clip(runs: readonly Run[], from: number, to: number): Run[] {
  return runs.flatMap(([offset, length, mark]): Run[] => {
    const start = Math.max(offset, from);
    const end = Math.min(offset + length, to);
    return start < end ? [[start - from, end - start, mark]] : [];
  });
}

/** Runs in [from, to) that have a mark other than the given ones. */
export function strangers(
  runs: readonly Run[],
  from: number,
  to: number,
  marks: readonly number[],
): Run[] {
  return clip(runs, from, to).filter(([, , mark]) => !marks.includes(mark));
}

const describeRuns = (runs: readonly Run[], marks: Marks) => {
  const nameOf = (mark: number) =>
    Object.entries(marks).find(([, value]) => value === mark)?.[0] ?? `foreign ${mark}`;
  const shown = runs.slice(0, 6).map(([at, length, mark]) => `[${at}, +${length}) ${nameOf(mark)}`);
  return `${shown.join(', ')}${runs.length > 6 ? ' …' : ''}`;
};

export interface JudgedRow {
  readonly name: string;
  readonly row: PlanRow;
  readonly result: RowResult;
  /** What was found in the destination, from its start. */
  readonly runs: readonly Run[];
  /** What is quiescent has changed where it is said to be applied, and nowhere else. */
  readonly exact?: boolean;
}

/** Holds what is claimed of one request against what is in its destination. */
export function judgeRow(judged: JudgedRow, marks: Marks): string[] {
  const { name, row, result, runs, exact = false } = judged;
  const findings: string[] = [];
  const claim = describeClaim(result);
  const say = (what: string) =>
    findings.push(`${name} ${row.opcode} of ${row.length} at ${row.remote}: ${claim}: ${what}`);
  const expectOnly = (mark: readonly number[], from: number, to: number, what: string) => {
    const wrong = strangers(runs, from, to, mark);
    if (wrong.length > 0) say(`${what}, found ${describeRuns(wrong, marks)} from ${from}`);
  };
  const { state, destination, bytes } = result;
  expectOnly([marks.old, marks.new], 0, row.length, 'neither old nor new');
  if (state === TaskState.completed) {
    if (bytes !== row.length) say(`${bytes} bytes are not all`);
    expectOnly([marks.new], 0, row.length, 'not all new');
    return findings;
  }
  if (state === TaskState.waiting || state === TaskState.pending) say('has not ended');
  if (destination === undefined) {
    say('nothing is said about the destination');
    return findings;
  }
  const { appliedRanges, unknownRanges } = destination;
  for (const [offset, length] of [...appliedRanges, ...unknownRanges]) {
    if (offset < 0 || length <= 0 || offset + length > row.length) say('a range outside');
  }
  for (const [offset, length] of appliedRanges) {
    expectOnly([marks.new], offset, offset + length, 'not applied');
  }
  if (destination.state === 'untouched') {
    expectOnly([marks.old], 0, row.length, 'not untouched');
    if (appliedRanges.length > 0) say('untouched, and applied');
  }
  if ((destination.state === 'unknown') !== unknownRanges.length > 0) say('ranges that are not');
  if (exact && destination.state === 'quiescent') {
    let end = 0;
    for (const [offset, length] of [...appliedRanges, [row.length, 0]] as const) {
      expectOnly([marks.old], end, offset, 'more is applied than is said');
      end = offset + length;
    }
  }
  const arrived = runs.filter(([, , mark]) => mark === marks.new);
  const present = arrived.reduce((sum, [, length]) => sum + length, 0);
  if (bytes > present) say(`${bytes} bytes are said to be moved, ${present} are there`);
  return findings;
}

export function describeClaim({ state, bytes, destination, error }: RowResult): string {
  const name = Object.entries(TaskState).find(([, value]) => value === state)?.[0];
  const report = destination === undefined ? '' : ` ${JSON.stringify(destination)}`;
  return `${name} ${error?.code ?? ''} ${bytes} bytes${report}`;
}

/**
 * Looks at a target's memory again: where nothing may change any more, nothing has.
 *
 * @param runs of the whole memory, which was filled with `probe` before
 */
export function judgeAftermath(
  rows: readonly { row: PlanRow; result: RowResult }[],
  runs: readonly Run[],
  marks: Marks,
): string[] {
  const mayChange = rows
    .filter(({ row }) => row.opcode === 'write')
    .flatMap(({ row, result }) =>
      (result.destination?.unknownRanges ?? []).map(([offset, length]): [number, number] => [
        row.remote + offset,
        row.remote + offset + length,
      ]),
    );
  const findings: string[] = [];
  for (const [offset, length, mark] of runs) {
    if (mark === marks.probe) continue;
    // A run may span ranges that touch: what is left over is where nothing may change.
    let left: [number, number][] = [[offset, offset + length]];
    for (const [from, to] of mark === marks.new ? mayChange : []) {
      left = left.flatMap(([start, end]): [number, number][] => [
        ...(start < from ? [[start, Math.min(end, from)] as [number, number]] : []),
        ...(end > to ? [[Math.max(start, to), end] as [number, number]] : []),
      ]);
    }
    for (const [from, to] of left) {
      const owner = rows.find(({ row }) => row.remote < to && from < row.remote + row.length);
      const whose =
        owner === undefined
          ? 'outside of every request'
          : `${owner.row.opcode} at ${owner.row.remote}: ${describeClaim(owner.result)}`;
      findings.push(`changed later: ${describeRuns([[from, to - from, mark]], marks)}, ${whose}`);
    }
  }
  return findings;
}
