import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runTe } from './cli-process.ts';

let folder = '';
let path = '';
const bytes = randomBytes(1_234_567);
const sum = createHash('sha256').update(bytes).digest('hex');

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'te-demo-'));
  path = join(folder, 'kv');
  await writeFile(path, bytes);
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

describe('te demo', () => {
  it('moves a file both ways and verifies it on both sides', async () => {
    const run = await runTe(['demo', `--file=${path}`, '--block=16K', '--batch=8', '--json']);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect(run.events.map(({ event }) => event)).toEqual([
      'plan',
      'ready',
      'transfer',
      'transfer',
      'transfer',
      'transfer',
      'exit',
    ]);
    expect(run.events[0]).toMatchObject({ bytes: 1_234_567, blocks: 76, layers: 16 });
    const transfers = ['shm', 'tcp'].flatMap((transport) => [
      { transport, op: 'write' },
      { transport, op: 'read' },
    ]);
    for (const [index, { transport, op }] of transfers.entries()) {
      expect(run.events[2 + index]).toMatchObject({
        transport,
        op,
        ok: true,
        bytes: 1_234_567,
        blocks: 76,
        batches: 10,
        notification: `${op} of 76 blocks is complete`,
        sha256: { file: sum, prefill: sum, decode: sum },
      });
    }
    expect(run.events.at(-1)).toEqual({ event: 'exit', failures: 0 });
  });

  it('shows a table to people', async () => {
    const run = await runTe(['demo', `--file=${path}`, '--size=100K']);
    expect(run.code).toBe(0);
    expect(run.stdout).toMatch(/transport +direction +bytes +batches +GB\/s +p50 +p99 +verified/);
    expect(run.stdout.match(/^shm .* yes$/gm)).toHaveLength(2);
    expect(run.stdout.match(/^tcp .* yes$/gm)).toHaveLength(2);
    expect(run.stdout).toContain('verified: SHA-256');
    expect(run.stdout).not.toContain('\r');
  });

  it('moves a file of one byte', async () => {
    const run = await runTe(['demo', `--file=${path}`, '--size=1', '--json']);
    expect(run.code).toBe(0);
    expect(run.events[2]).toMatchObject({ bytes: 1, blocks: 1, batches: 1, ok: true });
  });

  it('refuses a size beyond the file', async () => {
    const run = await runTe(['demo', `--file=${path}`, '--size=2M', '--json']);
    expect(run.code).toBe(2);
    expect(run.events).toMatchObject([{ error: { code: 'ERR_TE_INVALID_ARGUMENT' } }]);
  });
});
