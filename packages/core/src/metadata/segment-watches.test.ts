import { describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.ts';
import { FakeClock } from '../testing/fake-clock.ts';
import { MemoryStore } from './memory-store.ts';
import type { MetadataStore, WatchListener } from './metadata-store.ts';
import { SegmentWatches } from './segment-watches.ts';

function fixture() {
  const clock = new FakeClock();
  const listeners = new Map<string, WatchListener>();
  const store: MetadataStore = Object.assign(new MemoryStore(), {
    watch: (key: string, listener: WatchListener) => {
      listeners.set(key, listener);
      return { close: () => void listeners.delete(key) };
    },
  });
  const watches = new SegmentWatches({ store, clock, random: seededRandom(1), clusterId: 'c' });
  return { clock, listeners, watches };
}

describe('SegmentWatches', () => {
  const key = 'mooncake/c/ram/peer';

  it('gathers changes, and tells of none when the same document was written again', () => {
    const { clock, listeners, watches } = fixture();
    let changes = 0;
    const close = watches.add('peer', () => (changes += 1));
    const tell = listeners.get(key);
    tell?.({ type: 'sync', key });
    tell?.({ type: 'remove', key });
    clock.advance(5_000);
    expect(changes).toBe(0);
    for (const value of ['a', 'b']) tell?.({ type: 'put', key, value });
    clock.advance(200);
    expect(changes).toBe(1);
    tell?.({ type: 'put', key, value: 'a' });
    clock.advance(200);
    tell?.({ type: 'put', key });
    clock.advance(200);
    expect(changes).toBe(2);
    tell?.({ type: 'sync', key });
    clock.advance(2_100);
    expect(changes).toBe(3);
    tell?.({ type: 'put', key });
    close();
    clock.advance(5_000);
    expect([changes, listeners.size, clock.pendingTimers]).toEqual([3, 0, 0]);
  });

  it('watches so many segments and not more', () => {
    const { listeners, watches } = fixture();
    const closes = Array.from({ length: 300 }, (_, index) => watches.add(`p${index}`, () => {}));
    expect(listeners.size).toBe(256);
    closes[0]?.();
    watches.add('late', () => {});
    expect(listeners.has('mooncake/c/ram/late')).toBe(true);
    watches.close();
    expect(listeners.size).toBe(0);
  });
});
