import { describe, expect, it } from 'vitest';
import { runTe, startTarget, Te } from './cli-process.ts';

const MEMBERS = [
  'event',
  'op',
  'block',
  'batch',
  'transport',
  'gbps',
  'ops_per_s',
  'p50_us',
  'p99_us',
  'p999_us',
  'cpu_s_per_gb',
  'loop_delay_p99_ms',
  'ceiling',
  'ratio',
];
const positive = (value: unknown) => typeof value === 'number' && value > 0;

describe('te bench', () => {
  it.each(['write', 'read', 'mix'])('measures %s against its own target', async (op) => {
    const run = await runTe([
      'bench',
      '--loopback',
      `--op=${op}`,
      '--block=16K',
      '--batch=4',
      '--depth=2',
      '--duration=0.3',
      '--json',
    ]);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    const result = run.events.at(-1) ?? { event: 'none' };
    expect(Object.keys(result)).toEqual(MEMBERS);
    expect(result).toMatchObject({
      event: 'result',
      op,
      block: 16_384,
      batch: 4,
      transport: 'tcp',
    });
    for (const member of ['gbps', 'ops_per_s', 'p50_us', 'p99_us', 'p999_us', 'ratio']) {
      expect([member, positive(result[member])]).toEqual([member, true]);
    }
    const cpu = result['cpu_s_per_gb'] as Record<string, unknown>;
    expect(Object.keys(cpu)).toEqual(['initiator', 'target']);
    expect(positive(cpu['initiator']) && positive(cpu['target'])).toBe(true);
    const ceiling = result['ceiling'] as Record<string, unknown>;
    expect(Object.keys(ceiling)).toEqual(['name', 'gbps']);
    expect(ceiling['name']).toBe('node:net');
    expect(positive(ceiling['gbps'])).toBe(true);
    expect(Number(result['p50_us'])).toBeLessThanOrEqual(Number(result['p99_us']));
    expect(Number(result['p99_us'])).toBeLessThanOrEqual(Number(result['p999_us']));
    // Both are rounded to a few digits; the ratio must still be that of the two.
    const ratio = Number(result['gbps']) / Number(ceiling['gbps']);
    expect(Math.abs(Number(result['ratio']) / ratio - 1)).toBeLessThan(0.01);
  });

  it('measures against a segment, without the ceiling', async () => {
    await using target = await startTarget(['--size=256K']);
    const { segment } = target;
    const argv = ['bench', '--target', segment, '--block=4K', '--duration=0.1', '--no_ceiling'];
    const run = await runTe([...argv, '--lanes=1', '--json=true']);
    expect(run.code).toBe(0);
    const result = run.events.at(-1);
    expect(result).toMatchObject({ event: 'result', ceiling: null, ratio: null });
    expect(result?.['cpu_s_per_gb']).toMatchObject({ target: null });

    const tooLarge = await runTe([...argv, '--block=1M', '--json']);
    expect(tooLarge.code).toBe(2);
    expect(tooLarge.events.at(-1)).toMatchObject({ error: { code: 'ERR_TE_INVALID_ARGUMENT' } });
    const text = await runTe([...argv, '--json=false']);
    expect(text.stdout).toMatch(/throughput +\d+\.\d+ GB\/s/);
  });

  it('ends with 2 when the segment cannot be opened', async () => {
    const run = await runTe(['bench', '--target=127.0.0.1:1', '--no-ceiling', '--json']);
    expect(run.code).toBe(2);
    expect(run.events).toMatchObject([{ event: 'error' }]);
  });
});

describe('te bench that is ended', () => {
  it.each([
    ['SIGTERM', { code: 143, signal: null }],
    ['SIGKILL', { code: null, signal: 'SIGKILL' }],
  ] as const)('by %s leaves no process behind', async (signal, exit) => {
    await using te = new Te(['bench', '--loopback', '--duration=60', '--json']);
    expect((await te.next()).event).toBe('opened');
    te.child.kill(signal);
    // The standard error of the children is that of the parent: it closes when all are gone.
    expect(await te.exited).toEqual(exit);
    expect(te.stderr).toBe('');
  });
});
