import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { runEngineWorld } from './engine-workload.ts';
import type { WorldFacts } from './engine-world.ts';
import { REGRESSIONS } from './regressions.ts';
import { askedRange, freshSeedBase } from './seed-range.ts';

const GROUPS = 10;
const SEEDS_PER_GROUP = 200;
/** `TE_SEED=n` runs this seed alone, and prints what happened last. */
const onlySeed = process.env['TE_SEED'];
/** Another process asks for the traces of a few seeds. */
const traceFile = process.env['TE_TRACE_FILE'];
const asked = askedRange();

async function runSeed(seed: number): Promise<WorldFacts> {
  try {
    return await runEngineWorld(seed);
  } catch (error) {
    throw new Error(`${String(error)}\nTE_SEED=${seed} runs it alone`, { cause: error });
  }
}

/** Runs seeds, and makes sure that they prove something. */
async function runRange(from: number, count: number): Promise<void> {
  const total = { asks: 0, completed: 0, notifications: 0, retries: 0 };
  const failures: string[] = [];
  for (let seed = from; seed < from + count; seed += 1) {
    const facts = await runSeed(seed).catch((error: unknown) => {
      failures.push(String(error));
    });
    if (facts === undefined || facts.calm) continue;
    total.asks += facts.asks;
    total.completed += facts.completed;
    total.notifications += facts.notifications;
    total.retries += facts.retries;
  }
  expect(failures).toEqual([]);
  // A simulation in which everything works, or nothing does, would prove nothing.
  expect(total.completed).toBeGreaterThan(total.asks / 3);
  expect(total.completed).toBeLessThan((total.asks * 9) / 10);
  expect(total.notifications).toBeGreaterThan(count / 2);
  expect(total.retries).toBeGreaterThan(count / 2);
}

async function traces(): Promise<string[]> {
  const found: string[] = [];
  for (let seed = 0; seed < 25; seed += 1) found.push((await runSeed(seed)).trace);
  return found;
}

if (onlySeed !== undefined) {
  it(`engines, seed ${onlySeed}`, async () => {
    expect((await runSeed(Number(onlySeed))).asks).toBeGreaterThanOrEqual(0);
  });
} else if (traceFile !== undefined) {
  it('writes traces for another process', async () => {
    const found = await traces();
    expect(found).toHaveLength(25);
    writeFileSync(traceFile, JSON.stringify(found));
  });
} else if (asked !== undefined) {
  const { from, count } = asked;
  it(`engines, seeds ${from} to ${from + count - 1}`, () => runRange(from, count), 3_600_000);
} else {
  describe('engines in a world where everything goes wrong', () => {
    const base = freshSeedBase();
    for (let group = 0; group < GROUPS; group += 1) {
      const from = base + group * SEEDS_PER_GROUP;
      it(
        `keep their promises, seeds ${from} to ${from + SEEDS_PER_GROUP - 1}`,
        () => runRange(from, SEEDS_PER_GROUP),
        120_000,
      );
    }

    for (const [seed, what] of REGRESSIONS) {
      it(`keep their promises, seed ${seed}: ${what}`, async () => {
        expect((await runSeed(seed)).asks).toBeGreaterThan(0);
      });
    }

    it('do the same again with the same seed, also in another process', async () => {
      const found = await traces();
      expect(new Set(found).size).toBe(found.length);
      expect(await traces()).toEqual(found);
      const folder = mkdtempSync(join(tmpdir(), 'transfer-engine-traces-'));
      try {
        const file = join(folder, 'traces.json');
        const root = fileURLToPath(new URL('../..', import.meta.url));
        const own = fileURLToPath(import.meta.url);
        const program = join(root, 'node_modules/vitest/vitest.mjs');
        const { status, stdout, stderr } = spawnSync(
          process.execPath,
          [program, 'run', '--project', 'unit', own],
          { cwd: root, encoding: 'utf8', env: { ...process.env, TE_TRACE_FILE: file } },
        );
        expect(status, stdout + stderr).toBe(0);
        expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(found);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    }, 120_000);
  });
}
