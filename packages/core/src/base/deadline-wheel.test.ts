import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeadlineWheel, WheelEntry } from './deadline-wheel.ts';

class Probe extends WheelEntry {
  expiredAt: number | undefined;

  override onExpire(nowMs: number): void {
    expect(this.expiredAt).toBeUndefined();
    this.expiredAt = nowMs;
  }
}

describe('DeadlineWheel', () => {
  it('expires entries at their time or within one tick after it, never before', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 20_000 }), { maxLength: 40 }), (delays) => {
        const wheel = new DeadlineWheel(1000);
        const probes = delays.map((delay) => {
          const probe = new Probe();
          wheel.add(probe, 1000 + delay);
          return { probe, due: 1000 + delay };
        });
        let now = 1000;
        while (wheel.size > 0) {
          const next = wheel.nextMs() as number;
          expect(next).toBeGreaterThan(now);
          now = next;
          wheel.advance(now);
        }
        for (const { probe, due } of probes) {
          expect(probe.expiredAt).toBeGreaterThanOrEqual(due);
          expect(probe.expiredAt as number).toBeLessThanOrEqual(due + 16);
        }
        expect(wheel.nextMs()).toBeUndefined();
      }),
      { numRuns: 300 },
    );
  });

  it('forgets removed entries and survives removal during expiry', () => {
    const wheel = new DeadlineWheel(0);
    const removed = new Probe();
    wheel.add(removed, 100);
    wheel.remove(removed);
    wheel.remove(removed);
    const victim = new Probe();
    class Killer extends WheelEntry {
      override onExpire(): void {
        wheel.remove(victim);
      }
    }
    wheel.add(victim, 50);
    wheel.add(new Killer(), 50);
    wheel.advance(10_000);
    expect(removed.expiredAt).toBeUndefined();
    expect(victim.expiredAt).toBeUndefined();
    expect(wheel.size).toBe(0);
  });

  it('does not lose entries when time jumps by more than a turn', () => {
    const wheel = new DeadlineWheel(0);
    const near = new Probe();
    const far = new Probe();
    wheel.add(near, 20);
    wheel.add(far, 100_000);
    wheel.advance(50_000);
    expect(near.expiredAt).toBe(50_000);
    expect(far.expiredAt).toBeUndefined();
    wheel.advance(100_000);
    expect(far.expiredAt).toBe(100_000);
  });
});
