import { describe, expect, it } from 'vitest';
import { RateLimiter } from './rate-limiter.ts';

describe('RateLimiter', () => {
  it('lets a burst through, then as many as the rate says, for each address', () => {
    let nowMs = 0;
    const limiter = new RateLimiter(10, () => nowMs);
    const taken = (address: string) =>
      Array.from({ length: 30 }, () => limiter.take(address)).filter(Boolean).length;
    expect(taken('a')).toBe(10);
    expect(taken('a')).toBe(0);
    expect(taken('b')).toBe(10);
    nowMs = 500;
    expect(taken('a')).toBe(5);
    nowMs = 60_000;
    expect(taken('a')).toBe(10);
  });

  it('forgets the quietest of too many addresses', () => {
    const limiter = new RateLimiter(1, () => 0);
    expect([limiter.take('first'), limiter.take('first')]).toEqual([true, false]);
    for (let index = 0; index < 65_536; index += 1) limiter.take(`other-${index}`);
    expect(limiter.take('first')).toBe(true);
  });
});
