import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { pattern, startTarget, Te } from './cli-process.ts';

const sha = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

it('answers every line with one line, in order', async () => {
  await using target = await startTarget(['--size=1000', '--buffers=2', '--batch-register']);
  const { segment } = target;
  const sum = sha(pattern(1000, 7));
  const commands = [
    'sum',
    `probe ${segment}`,
    'probe 127.0.0.1:1',
    `notify ${segment} own a message`,
    'notify 127.0.0.1:1 n m',
    'notifies',
    'check 0 10 90 7',
    'check 0 10 90 8',
    'check 0 10 991 7',
    'check 5 0 1 7',
    '',
    'addbuf 500',
    'delbuf 0',
    'delbuf 0',
    'sum',
    'fill 3',
    'sum',
    'check 2 0 500 3',
    'check 0 0 1 7',
    'delbuf',
    'nonsense',
    'cpu',
    'quit',
    'sum',
  ];
  // All at once: answers must come in the order of the lines although some take longer.
  target.child.stdin?.write(commands.map((line) => `${line}\n`).join(''));
  expect(await target.exited).toEqual({ code: 0, signal: null });
  const answers = target.lines.slice(1).map((line) => JSON.parse(line) as Record<string, unknown>);
  const error = { code: expect.any(String) as string, message: expect.any(String) as string };
  const refilled = [sha(pattern(1000, 3)), sha(pattern(500, 3))];
  expect(answers).toEqual([
    { event: 'sum', sha256: [sum, sum] },
    { event: 'probe', ok: true },
    { event: 'probe', ok: false },
    { event: 'notify', ok: true },
    { event: 'notify', ok: false, error },
    { event: 'notifies', items: [{ name: 'own', msg: 'a message' }] },
    { event: 'check', ok: true },
    { event: 'check', ok: false, mismatch_at: 10 },
    { event: 'check', ok: false, error },
    { event: 'check', ok: false, error },
    {
      event: 'addbuf',
      ok: true,
      index: 2,
      addr: expect.stringMatching(/^\d+$/) as string,
      length: 500,
    },
    { event: 'delbuf', ok: true, index: 0 },
    { event: 'delbuf', ok: false, error },
    { event: 'sum', sha256: [sum, sha(pattern(500, 7))] },
    { event: 'fill', ok: true },
    { event: 'sum', sha256: refilled },
    { event: 'check', ok: true },
    { event: 'check', ok: false, error },
    { event: 'delbuf', ok: false, error },
    { event: 'error', error },
    {
      event: 'cpu',
      ok: true,
      user_us: expect.any(Number) as number,
      system_us: expect.any(Number) as number,
    },
    { event: 'final', sha256: refilled },
  ]);
});

it('shares the bytes of a file', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'te-cli-'));
  try {
    const path = join(folder, 'file');
    const bytes = pattern(70_000, 99);
    await writeFile(path, bytes);
    await using target = await startTarget([`--file=${path}`]);
    expect(target.ready['buffers']).toMatchObject([{ length: 70_000 }]);
    expect(await target.ask('sum')).toEqual({ event: 'sum', sha256: [sha(bytes)] });

    await using part = await startTarget([`--file=${path}`, '--size=100', '--buffers=2']);
    const sum = sha(bytes.subarray(0, 100));
    expect(await part.ask('sum')).toEqual({ event: 'sum', sha256: [sum, sum] });
  } finally {
    await rm(folder, { recursive: true });
  }
});

it('listens where it is told', async () => {
  await using first = await startTarget(['--name=127.0.0.1', '--rpc-port=0', '--strict']);
  await using second = new Te([
    'target',
    '--json',
    `--rpc_port=${String(first.ready['rpc_port'])}`,
  ]);
  expect(await second.next()).toMatchObject({
    event: 'error',
    error: { code: 'ERR_TE_PORT_UNAVAILABLE' },
  });
  expect((await second.exited).code).toBe(2);
});

it.each([
  ['SIGTERM', 143],
  ['SIGINT', 130],
] as const)('ends by %s with %i', async (signal, code) => {
  await using target = await startTarget([]);
  target.child.kill(signal);
  expect(await target.exited).toEqual({ code, signal: null });
});

it('ends quietly when nobody reads', async () => {
  await using target = await startTarget([]);
  target.child.stdout?.destroy();
  target.send('sum');
  expect((await target.exited).code).toBe(141);
  expect(target.stderr).toBe('');
});

it('speaks to people when asked to', async () => {
  await using target = new Te(['target', '--json=false']);
  await target.quit();
  expect(target.lines[0]).toMatch(/^segment 127\.0\.0\.1:\d+ is ready: 1 buffers of 1 MiB/);
  expect(target.lines[1]).toBe('final');
});
