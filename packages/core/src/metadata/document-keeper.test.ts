import { describe, expect, it } from 'vitest';
import { EngineError } from '../base/errors.ts';
import { seededRandom } from '../base/random.ts';
import { FakeClock } from '../testing/fake-clock.ts';
import { DocumentKeeper } from './document-keeper.ts';
import { MemoryDirectory, MemoryStore } from './memory-store.ts';
import type { MetadataStore } from './metadata-store.ts';

function fixture(overrides: (store: MemoryStore) => Partial<MetadataStore> = () => ({})) {
  const clock = new FakeClock();
  const random = seededRandom(3);
  const directory = new MemoryDirectory(clock);
  const state = { up: true };
  const memory = new MemoryStore(directory, { clock, random }, () => {
    if (!state.up) throw new EngineError('ERR_TE_METADATA', 'away');
  });
  const store: MetadataStore = {
    description: 'memory',
    get: (key, options) => memory.get(key, options),
    put: (key, value, options) => memory.put(key, value, options),
    remove: (key, options) => memory.remove(key, options),
    lease: (options) => memory.lease(options),
    close: () => memory.close(),
    ...overrides(memory),
  };
  const keeper = new DocumentKeeper({ store, timeoutMs: 1_000, clock, random });
  const pass = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 50) {
      clock.advance(50);
      for (let turn = 0; turn < 12; turn += 1) await Promise.resolve();
    }
  };
  return { clock, directory, keeper, pass, state };
}

describe('DocumentKeeper', () => {
  it('keeps a document for as long as it lives, and not longer', async () => {
    const { directory, keeper, pass } = fixture();
    await keeper.put('k', 'v', {});
    await pass(60_000);
    expect(directory.documents.get('k')).toBe('v');
    keeper.close();
    await pass(11_000);
    expect(directory.documents.size).toBe(0);
  });

  it('writes a lost document again, the latest one', async () => {
    const { directory, keeper, pass } = fixture();
    await keeper.put('k', 'first', {});
    await keeper.put('k', 'second', {});
    await keeper.put('other', 'x', {});
    directory.clear();
    await pass(4_000);
    expect(Object.fromEntries(directory.documents)).toEqual({ k: 'second', other: 'x' });
  });

  it('writes it again after an outage, whatever was tried meanwhile', async () => {
    const { directory, keeper, pass, state } = fixture();
    await keeper.put('k', 'published', {});
    state.up = false;
    await expect(keeper.put('k', 'refused', {})).rejects.toMatchObject({ code: 'ERR_TE_METADATA' });
    await pass(30_000);
    expect(directory.documents.size).toBe(0);
    state.up = true;
    await pass(4_000);
    expect(directory.documents.get('k')).toBe('published');
    await keeper.put('k', 'next', {});
    expect(directory.documents.get('k')).toBe('next');
  });

  it('repairs what a failed write may have left', async () => {
    let fail = false;
    const { directory, keeper, pass } = fixture((memory) => ({
      lease: (options) => {
        const lease = memory.lease(options);
        return {
          put: async (key, value, bounds) => {
            await lease.put(key, value, bounds);
            // It arrived, and the answer did not.
            if (fail) throw new Error('connection lost');
          },
          remove: (key, bounds) => lease.remove(key, bounds),
          close: () => lease.close(),
        };
      },
    }));
    await keeper.put('k', 'with the old region', {});
    fail = true;
    await expect(keeper.put('k', 'with a region that was rolled back', {})).rejects.toThrow('lost');
    fail = false;
    await pass(2_000);
    expect(directory.documents.get('k')).toBe('with the old region');
  });

  it('does not bring back what was removed', async () => {
    const { directory, keeper, pass, state } = fixture();
    await keeper.put('k', 'v', {});
    expect(keeper.mayHave('k')).toBe(true);
    directory.clear();
    await pass(2_600);
    await keeper.remove('k', {});
    expect(keeper.mayHave('k')).toBe(false);
    await pass(20_000);
    expect(directory.documents.size).toBe(0);
    await keeper.put('k', 'v', {});
    state.up = false;
    await expect(keeper.remove('k', {})).rejects.toThrow('away');
    expect(keeper.mayHave('k')).toBe(true);
    state.up = true;
    // What could not be removed goes with its lease.
    await pass(11_000);
    expect(directory.documents.size).toBe(0);
  });

  it('does what it can where there is no lease', async () => {
    const { clock, directory, keeper, pass } = fixture(() => ({ lease: undefined as never }));
    await keeper.put('k', 'v', {});
    await pass(60_000);
    expect(directory.documents.get('k')).toBe('v');
    await keeper.remove('k', {});
    expect([directory.documents.size, clock.pendingTimers]).toEqual([0, 0]);
  });
});
