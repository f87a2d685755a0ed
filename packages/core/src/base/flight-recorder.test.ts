import { describe, expect, it } from 'vitest';
import { FlightRecorder } from './flight-recorder.ts';

const kinds = (recorder: FlightRecorder, count?: number) =>
  recorder
    .last(count)
    .map(({ kind }) => kind)
    .join('');

describe('FlightRecorder', () => {
  it('keeps the last events in their order', () => {
    const recorder = new FlightRecorder(4);
    expect(recorder.last()).toEqual([]);
    const seen: string[] = [];
    for (const kind of 'abcdefghij') {
      recorder.record({ atMs: 0, kind, facts: {} });
      seen.push(kinds(recorder));
    }
    expect(seen).toEqual([
      'a',
      'ab',
      'abc',
      'abcd',
      'bcde',
      'cdef',
      'defg',
      'efgh',
      'fghi',
      'ghij',
    ]);
    expect(kinds(recorder, 2)).toBe('ij');
  });
});
