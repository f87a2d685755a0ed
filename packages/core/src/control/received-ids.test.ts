import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ReceivedIds } from './received-ids.ts';

describe('ReceivedIds', () => {
  it('knows what it was told, in any order, and nothing else near it', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 500 })), (sequences) => {
        const ids = new ReceivedIds();
        for (const sequence of sequences) {
          expect(ids.has('a', sequence)).toBe(false);
          ids.add('a', sequence);
          expect(ids.has('a', sequence)).toBe(true);
        }
        for (let sequence = 1; sequence <= 500; sequence += 1) {
          expect(ids.has('a', sequence)).toBe(sequences.includes(sequence));
        }
        expect(ids.has('b', 1)).toBe(false);
      }),
      { numRuns: 200 },
    );
  });

  it('takes what is far behind the newest for received', () => {
    const ids = new ReceivedIds();
    ids.add('a', 1_000_000);
    expect(ids.has('a', 999_999)).toBe(false);
    expect(ids.has('a', 900_000)).toBe(true);
  });

  it('forgets the sender that was silent for longest', () => {
    const ids = new ReceivedIds();
    ids.add('first', 1);
    ids.add('second', 1);
    ids.add('first', 2);
    for (let index = 0; index < 4095; index += 1) ids.add(`sender ${index}`, 1);
    expect(ids.has('second', 1)).toBe(false);
    expect(ids.has('first', 2)).toBe(true);
  });
});
