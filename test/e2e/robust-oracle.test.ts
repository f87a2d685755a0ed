import { TaskState } from '@transfer-engine/core';
import { describe, expect, it } from 'vitest';
import { judgeAftermath, judgeRow, marksOf } from '../support/robust/oracle.ts';
import type { PlanRow, RowResult, Run } from '../support/robust/programs.ts';

const marks = marksOf(3);
const LENGTH = 100;
const row: PlanRow = {
  ...{ opcode: 'write', segment: 'a', local: 0, remote: 1_000, address: 5n, length: LENGTH },
};
const all = (mark: number): Run[] => [[0, LENGTH, mark]];
const half: Run[] = [
  [0, 50, marks.new],
  [50, 50, marks.old],
];

function failed(
  state: 'untouched' | 'quiescent' | 'unknown',
  appliedRanges: [number, number][] = [],
  unknownRanges: [number, number][] = [],
  bytes = 0,
): RowResult {
  const destination = { state, appliedRanges, unknownRanges };
  return { state: TaskState.failed, bytes, destination, runs: [] };
}
const completed: RowResult = { state: TaskState.completed, bytes: LENGTH, runs: [] };
const judge = (result: RowResult, runs: readonly Run[]) =>
  judgeRow({ name: 'x', row, result, runs }, marks);

describe('the oracle of the rounds', () => {
  it.each<[string, RowResult, readonly Run[]]>([
    ['completed', completed, all(marks.new)],
    ['untouched', failed('untouched'), all(marks.old)],
    ['quiescent with what is there', failed('quiescent', [[0, 50]], [], 50), half],
    ['quiescent, and less is told than is there', failed('quiescent', [[0, 20]], [], 20), half],
    ['unknown', failed('unknown', [], [[0, LENGTH]]), half],
  ])('believes what is true: %s', (_what, result, runs) => {
    expect(judge(result, runs)).toEqual([]);
  });

  it.each<[string, RowResult, readonly Run[]]>([
    ['completed, but half is missing', completed, half],
    ['completed with too few bytes', { ...completed, bytes: 99 }, all(marks.new)],
    ['still waiting', { ...failed('untouched'), state: TaskState.waiting }, all(marks.old)],
    ['untouched, but half is there', failed('untouched'), half],
    ['applied, but not there', failed('quiescent', [[40, 20]], [], 0), half],
    ['more bytes than there are', failed('quiescent', [[0, 50]], [], 51), half],
    ['the source was read after the end', failed('unknown', [], [[0, 100]]), all(marks.poison)],
    ['bytes of another round', completed, all(marksOf(2).new)],
    ['unknown, and nothing that is unknown', failed('unknown'), half],
    ['a range outside of the request', failed('unknown', [], [[60, 50]]), half],
    ['not a word about the destination', { state: TaskState.failed, bytes: 0, runs: [] }, half],
  ])('finds what is not: %s', (_what, result, runs) => {
    expect(judge(result, runs)).not.toEqual([]);
  });

  it('finds what was applied beyond exact ranges', () => {
    const exactly = (result: RowResult) =>
      judgeRow({ name: 'x', row, result, runs: half, exact: true }, marks);
    expect(exactly(failed('quiescent', [[0, 50]], [], 50))).toEqual([]);
    expect(exactly(failed('quiescent', [[0, 49]], [], 49))).toHaveLength(1);
    expect(exactly(failed('quiescent', [[1, 49]], [], 49))).toHaveLength(1);
  });

  it('allows a later change only where it was announced', () => {
    const rows = [{ row, result: failed('unknown', [], [[20, 30]]) }];
    const later = (from: number, length: number, mark: number): Run[] => [
      [0, from, marks.probe],
      [from, length, mark],
      [from + length, 5_000 - from - length, marks.probe],
    ];
    const at = row.remote;
    expect(judgeAftermath(rows, [[0, 5_000, marks.probe]], marks)).toEqual([]);
    expect(judgeAftermath(rows, later(at + 20, 30, marks.new), marks)).toEqual([]);
    expect(judgeAftermath(rows, later(at + 25, 5, marks.new), marks)).toEqual([]);
    expect(judgeAftermath(rows, later(at + 19, 30, marks.new), marks)).toHaveLength(1);
    expect(judgeAftermath(rows, later(at + 21, 30, marks.new), marks)).toHaveLength(1);
    expect(judgeAftermath(rows, later(at + 20, 30, marks.poison), marks)).toHaveLength(1);
    expect(judgeAftermath(rows, later(10, 1, marks.new), marks)).toHaveLength(1);
  });
});
