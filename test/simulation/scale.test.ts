import { describe, expect, it } from 'vitest';
import { ScaleWorld, type ScaleOptions, type ScaleReport } from './scale-world.ts';

const full = process.env['TE_SCALE'] === 'full';
const options: ScaleOptions = full
  ? { engines: 1_000, virtualSeconds: 60 }
  : { engines: 100, virtualSeconds: 5 };

async function run(seed: number): Promise<ScaleReport> {
  const startMs = performance.now();
  const report = await new ScaleWorld(seed, options).run();
  const seconds = (performance.now() - startMs) / 1000;
  if (full) console.log(JSON.stringify({ seed, ...options, ...report, wallSeconds: seconds }));
  return report;
}

describe(`${options.engines} engines for ${options.virtualSeconds} virtual seconds`, () => {
  it('move everything, and the same again with the same seed', async () => {
    const first = await run(1);
    expect(first.requests).toBe(options.engines * options.virtualSeconds * 64);
    expect(await run(1)).toEqual(first);
    if (!full) expect((await run(2)).trace).not.toBe(first.trace);
  }, 1_800_000);
});
