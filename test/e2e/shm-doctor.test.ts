import { existsSync } from 'node:fs';
import { expect, it } from 'vitest';
import { cleanupAfterEach } from '../support/cleanup.ts';
import { EngineProcess } from '../support/engine-process.ts';
import { cleanStaleObjects } from '@transfer-engine/transport-shm';
import { runTe } from './cli-process.ts';

const cleanup = cleanupAfterEach();

interface Check {
  readonly name: string;
  readonly level: string;
  readonly detail: string;
}

async function leftObjects(...argv: string[]): Promise<Check> {
  const run = await runTe(['doctor', '--json', ...argv]);
  expect(run.code).toBe(0);
  const checks = (run.events[0] as unknown as { readonly checks: readonly Check[] }).checks;
  const found = checks.find(({ name }) => name === 'objects left in /dev/shm');
  if (found === undefined) throw new Error('the doctor looks for objects');
  return found;
}

it('te doctor finds what killed engines left, and removes it when asked', async () => {
  const engine = await EngineProcess.start(cleanup, { shmOptions: {} });
  await engine.call('allocate', { length: 4096 });
  await engine.kill();
  const stale = cleanStaleObjects({ dryRun: true }).filter(({ pid }) => pid === engine.pid);
  expect(stale).toHaveLength(2);
  const named = await leftObjects();
  expect(named.level).toBe('warning');
  for (const { path } of stale) expect(named.detail).toContain(path);
  expect(stale.every(({ path }) => existsSync(path))).toBe(true);
  const removed = await leftObjects('--clean');
  expect(removed.level).toBe('ok');
  for (const { path } of stale) {
    expect(removed.detail).toContain(path);
    expect(existsSync(path)).toBe(false);
  }
});
