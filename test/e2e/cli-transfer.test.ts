import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pattern, runTe, startTarget, Te, type TeEvent } from './cli-process.ts';

const sha = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const LOOPBACK = { environment: { MC_TCP_BIND_ADDRESS: '127.0.0.1' } };
const OP_MEMBERS = ['event', 'op', 'ok', 'us', 'bytes'];

interface Mode {
  readonly title: string;
  /** Options of both sides. */
  common: string[];
  targetName: string;
  initiatorName: string;
}

const p2p: Mode = {
  title: 'P2P',
  common: ['--metadata=P2PHANDSHAKE'],
  targetName: '127.0.0.1',
  initiatorName: '127.0.0.1',
};
const http: Mode = { title: 'HTTP', common: [], targetName: 'te-target', initiatorName: 'te-init' };

let server: Te | undefined;

beforeAll(async () => {
  server = new Te(['metadata', 'serve', '--port=0', '--json']);
  const ready = await server.next();
  http.common = [`--metadata=${String(ready['uri'])}`];
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
});

function initiate(mode: Mode, segment: string, argv: readonly string[]) {
  return runTe(
    [
      'initiator',
      '--json',
      ...mode.common,
      `--name=${mode.initiatorName}`,
      '--target',
      segment,
      ...argv,
    ],
    LOOPBACK,
  );
}

function startIn(mode: Mode, argv: readonly string[]) {
  return startTarget([...mode.common, `--name=${mode.targetName}`, ...argv], LOOPBACK);
}

function opsOf(events: readonly TeEvent[]): TeEvent[] {
  return events.filter(({ event }) => event === 'op');
}

describe.each([p2p, http])('target and initiator in $title mode', (mode) => {
  it('say exactly what they should, and the bytes are there', async () => {
    await using target = await startIn(mode, ['--size=64K', '--buffers=2', '--seed=9']);
    const { ready, segment } = target;
    expect(Object.keys(ready)).toEqual([
      'event',
      'segment',
      'rpc_port',
      'tcp_data_port',
      'tcp_proto_version',
      'buffers',
    ]);
    expect(ready).toMatchObject({ event: 'ready', tcp_proto_version: 2 });
    expect(ready['buffers']).toEqual([
      { index: 0, addr: expect.stringMatching(/^\d+$/) as string, length: 65_536 },
      { index: 1, addr: expect.stringMatching(/^\d+$/) as string, length: 65_536 },
    ]);
    if (mode === p2p) expect(segment).toBe(`127.0.0.1:${String(ready['rpc_port'])}`);
    else expect(segment).toBe(mode.targetName);

    const run = await initiate(mode, segment, [
      '--op=info,probe,write,read,verify',
      '--offset=1000',
      '--length=3000',
      '--batch=4',
      '--buffer_index=1',
    ]);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    const [up, opened, ...rest] = run.events;
    expect(up).toMatchObject({ event: 'up', segment: expect.any(String) as string });
    expect(opened).toMatchObject({ event: 'opened', name: segment, protocol: 'tcp' });
    expect(opened?.['buffers']).toMatchObject(ready['buffers'] as object[]);
    expect(rest.at(-1)).toEqual({ event: 'exit', failures: 0 });
    const ops = rest.slice(0, -1);
    expect(ops.map(({ op, ok, bytes }) => [op, ok, bytes])).toEqual([
      ['info', true, 0],
      ['probe', true, 0],
      ['write', true, 12_000],
      ['read', true, 12_000],
      ['verify', true, 12_000],
    ]);
    for (const op of ops.slice(1)) expect(Object.keys(op)).toEqual(OP_MEMBERS);
    expect(Object.keys(ops[0] ?? {})).toEqual([...OP_MEMBERS, 'buffers']);
    expect(ops.every(({ us }) => Number.isInteger(us) && (us as number) >= 0)).toBe(true);

    const first = pattern(65_536, 9);
    const second = Buffer.from(first);
    pattern(12_000, 42, 1000).copy(second, 1000);
    expect(await target.ask('sum')).toEqual({ event: 'sum', sha256: [sha(first), sha(second)] });
    expect(await target.ask('check 1 1000 12000 42')).toEqual({ event: 'check', ok: true });
    expect(await target.quit()).toEqual({ code: 0, signal: null });
    expect(await target.next()).toEqual({ event: 'final', sha256: [sha(first), sha(second)] });
    expect(target.stderr).toBe('');
  });

  it('notify in every way, and wait', async () => {
    await using target = await startIn(mode, []);
    const { segment } = target;
    const run = await initiate(mode, segment, [
      '--op=notify,notifybyname,writenotify',
      '--notify-name=n-1',
      '--notify_msg=text with "quotes" and ü',
      '--repeat=2',
    ]);
    expect(run.code).toBe(0);
    expect(opsOf(run.events).map(({ op, bytes }) => [op, bytes])).toEqual([
      ['notify', 0],
      ['notifybyname', 0],
      ['writenotify', 4096],
      ['notify', 0],
      ['notifybyname', 0],
      ['writenotify', 4096],
    ]);
    const item = { name: 'n-1', msg: 'text with "quotes" and ü' };
    expect(await target.ask('notifies')).toEqual({ event: 'notifies', items: Array(6).fill(item) });
    expect(await target.ask('notifies')).toEqual({ event: 'notifies', items: [] });

    await using waiting = new Te(
      [
        'initiator',
        '--json',
        ...mode.common,
        `--name=${mode.initiatorName}`,
        '--target',
        segment,
        '--op=wait',
      ],
      LOOPBACK,
    );
    const up = await waiting.next();
    expect((await waiting.next()).event).toBe('opened');
    expect(await target.ask(`probe ${String(up['segment'])}`)).toEqual({
      event: 'probe',
      ok: true,
    });
    expect(await target.ask(`notify ${String(up['segment'])} hello a  b`)).toEqual({
      event: 'notify',
      ok: true,
    });
    expect(await waiting.next()).toMatchObject({
      op: 'wait',
      ok: true,
      items: [{ name: 'hello', msg: 'a  b' }],
    });
    expect(await waiting.exited).toEqual({ code: 0, signal: null });
  });

  it('end with 1 at the first failure, a rejected address included', async () => {
    await using target = await startIn(mode, ['--size=4096']);
    const { ready, segment } = target;
    const [buffer] = ready['buffers'] as { addr: string }[];
    const before = await target.ask('sum');
    const past = BigInt(buffer?.addr ?? 0) + 1n;
    for (const [argv, op] of [
      [['--op=write,read', '--offset=1'], 'write'],
      [['--op=read,write', '--addr=4096'], 'read'],
      [['--op=verify', `--addr=0x${past.toString(16)}`], 'verify'],
    ] as const) {
      const run = await initiate(mode, segment, argv);
      expect(run.code).toBe(1);
      expect(opsOf(run.events)).toEqual([
        {
          event: 'op',
          op,
          ok: false,
          us: expect.any(Number) as number,
          bytes: 0,
          error: { code: 'ERR_TE_ADDRESS_REJECTED', message: expect.any(String) as string },
        },
      ]);
      expect(run.events.at(-1)).toEqual({ event: 'exit', failures: 1 });
    }
    expect(await target.ask('sum')).toEqual(before);
  });

  it('compare what verify reads with wseed, or with the fill of the target', async () => {
    await using target = await startIn(mode, ['--seed=5', '--size=1M']);
    const { segment } = target;
    const verify = ['--op=verify', '--offset=777', '--length=300000'];
    expect((await initiate(mode, segment, [...verify, '--rseed=5'])).code).toBe(0);
    const wrong = await initiate(mode, segment, verify);
    expect(wrong.code).toBe(1);
    expect(opsOf(wrong.events)[0]).toMatchObject({
      ok: false,
      bytes: 300_000,
      error: { code: 'ERR_TE_DATA_MISMATCH' },
    });
    expect(await target.ask('fill 42')).toEqual({ event: 'fill', ok: true });
    expect((await initiate(mode, segment, verify)).code).toBe(0);
  });

  it('end with 2 when the segment cannot be opened', async () => {
    const nobody = mode === p2p ? '127.0.0.1:1' : 'no-such-segment';
    const run = await initiate(mode, nobody, ['--op=write', '--timeout=3000']);
    expect(run.code).toBe(2);
    expect(run.events.map(({ event }) => event)).toEqual(['up', 'error']);
    expect(Object.keys(run.events[1]?.['error'] as object)).toEqual(['code', 'message']);
  });

  it('move nothing for requests without bytes', async () => {
    await using target = await startIn(mode, []);
    const { segment } = target;
    const run = await initiate(mode, segment, ['--op=write,read,verify', '--length=0']);
    expect(run.code).toBe(0);
    expect(opsOf(run.events).map(({ bytes }) => bytes)).toEqual([0, 0, 0]);
  });
});

it('ends with 2 when the metadata cannot be reached', async () => {
  const run = await runTe(
    ['target', '--json', '--metadata=http://127.0.0.1:1/metadata', '--name=a'],
    LOOPBACK,
  );
  expect(run.code).toBe(2);
  expect(run.events).toMatchObject([{ event: 'error', error: { code: 'ERR_TE_METADATA' } }]);
});

it('ends with 2 for a buffer that the segment does not have', async () => {
  await using target = await startIn(p2p, ['--buffers=0']);
  const { segment } = target;
  const run = await initiate(p2p, segment, ['--op=write']);
  expect(run.code).toBe(2);
  expect(run.events.at(-1)).toMatchObject({ error: { code: 'ERR_TE_INVALID_ARGUMENT' } });
  expect((await initiate(p2p, segment, ['--op=notify,probe,info'])).code).toBe(0);
});

it('settles with a typed error when the target dies in the middle', async () => {
  await using target = await startIn(p2p, ['--size=256M']);
  await using bench = new Te([
    'bench',
    '--target',
    target.segment,
    '--no-ceiling',
    '--duration=60',
    '--json',
  ]);
  expect((await bench.next()).event).toBe('opened');
  target.child.kill('SIGKILL');
  expect(await bench.next()).toMatchObject({
    event: 'error',
    error: { code: expect.stringMatching(/^ERR_TE_(PEER_LOST|CONNECT_FAILED)$/) as string },
  });
  expect(await bench.exited).toEqual({ code: 1, signal: null });
});

it.each(['[::1]', '::1', 'localhost'])('moves bytes between segments named %s', async (name) => {
  await using target = await startTarget([`--name=${name}`]);
  expect(target.segment).toMatch(name === 'localhost' ? /^localhost:\d+$/ : /^\[::1\]:\d+$/);
  const run = await initiate({ ...p2p, initiatorName: name }, target.segment, [
    '--op=write,verify,probe',
  ]);
  expect(run).toMatchObject({ code: 0, stderr: '' });
});
