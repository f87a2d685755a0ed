import { describe, expect, it } from 'vitest';
import { SimWorld } from '../../packages/core/src/testing/index.ts';

describe('closing an engine', () => {
  it('ends calls that wait for a control port', async () => {
    const world = new SimWorld(1);
    const a = await world.until(world.engine({ name: 'a' }));
    await world.until(world.engine({ name: 'b' }));
    await world.until(a.openSegment('b:12001'));
    world.partition('a', 'b');
    const waiting = [
      a.notify('b:12001', { name: 'n', message: '' }),
      a.openSegment('b:12001'),
      a.probe('b:12001'),
    ].map((call) => call.catch((error: unknown) => String(error)));
    await world.run(5);
    await world.until(a.close());
    const ends = await world.until(Promise.all(waiting), 1);
    for (const end of ends) expect(end).toContain('ERR_TE_CLOSED');
    expect(world.timersOf('a')).toBe(0);
  });

  it('ends calls that wait for a store', async () => {
    const world = new SimWorld(1, { store: { latencyMs: [50, 50] } });
    const a = await world.until(world.engine({ name: 'a', metadata: 'store' }));
    const waiting = a.openSegment('nobody').catch((error: unknown) => String(error));
    const closing = a.close();
    await world.until(closing);
    expect(await world.until(waiting, 1)).toMatch(/ERR_TE_(CLOSED|SEGMENT_NOT_FOUND)/);
    expect(world.timersOf('a')).toBe(0);
  });
});
