import { describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.ts';
import { FakeClock } from '../testing/fake-clock.ts';
import { RefreshedLease, type LeaseOperations } from './refreshed-lease.ts';

const LEASE_MS = 4_000;

function fixture(refresh: LeaseOperations['refresh'] = () => Promise.resolve([])) {
  const clock = new FakeClock();
  const refreshed: { atMs: number; keys: readonly string[] }[] = [];
  const lost: string[] = [];
  const lease = new RefreshedLease(
    { leaseMs: LEASE_MS, onLost: (keys) => lost.push(...keys) },
    {
      put: () => Promise.resolve(),
      remove: () => Promise.resolve(),
      refresh: (keys, options) => {
        refreshed.push({ atMs: clock.nowMs(), keys });
        return refresh(keys, options);
      },
    },
    { clock, random: seededRandom(1) },
  );
  const pass = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 50) {
      clock.advance(50);
      for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
    }
  };
  return { clock, lease, lost, pass, refreshed };
}

describe('RefreshedLease', () => {
  it('refreshes its keys several times in their time, together', async () => {
    const { lease, pass, refreshed } = fixture();
    await pass(LEASE_MS);
    expect(refreshed).toEqual([]);
    await lease.put('a', '1');
    await lease.put('b', '2');
    await lease.remove('b');
    await lease.put('c', '3');
    await pass(LEASE_MS);
    expect(refreshed.length).toBeGreaterThanOrEqual(4);
    expect(refreshed.length).toBeLessThanOrEqual(5);
    for (const { keys } of refreshed) expect(keys).toEqual(['a', 'c']);
  });

  it('tells of a lost key once, and keeps it no longer', async () => {
    const { lease, lost, pass, refreshed } = fixture(() => Promise.resolve(['a', 'never ours']));
    await lease.put('a', '1');
    await lease.put('b', '2');
    await pass(LEASE_MS);
    expect(lost).toEqual(['a']);
    expect(refreshed.at(-1)?.keys).toEqual(['b']);
  });

  it('goes on trying, faster and then slower, while the server is away', async () => {
    const { lease, lost, pass, refreshed } = fixture(() => Promise.reject(new Error('away')));
    await lease.put('a', '1');
    await pass(60_000);
    const gaps = refreshed.slice(1).map(({ atMs }, i) => atMs - (refreshed[i]?.atMs ?? 0));
    expect(gaps[0]).toBeLessThan(300);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(1_100);
    expect(Math.min(...gaps.slice(5))).toBeGreaterThanOrEqual(450);
    expect(lost).toEqual([]);
  });

  it('has no timer without keys, and none after its end', async () => {
    const { clock, lease, pass, refreshed } = fixture();
    expect(clock.pendingTimers).toBe(0);
    await lease.put('a', '1');
    await lease.remove('a');
    await pass(LEASE_MS);
    expect([clock.pendingTimers, refreshed.length]).toEqual([0, 0]);
    await lease.put('a', '1');
    expect(clock.pendingTimers).toBe(1);
    lease.close();
    lease.close();
    expect(clock.pendingTimers).toBe(0);
    await expect(lease.put('a', '1')).rejects.toMatchObject({ code: 'ERR_TE_CLOSED' });
    await expect(lease.remove('a')).rejects.toMatchObject({ code: 'ERR_TE_CLOSED' });
  });

  it.each([0, 199, 1.5, Number.NaN, 86_400_001])('refuses a time of %d', (leaseMs) => {
    const operations = { put: never, remove: never, refresh: never };
    expect(() => new RefreshedLease({ leaseMs }, operations)).toThrow(/leaseMs/);
  });
});

const never = () => Promise.reject(new Error('not called'));
