import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createMetadataServer } from '@transfer-engine/metadata';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { storeModes, type RunningMode } from '../support/metadata-modes.ts';
import { runTe, startTarget } from './cli-process.ts';

const LOOPBACK = { environment: { MC_TCP_BIND_ADDRESS: '127.0.0.1' } };
const WORK = ['--op=probe,write,verify,read,notify', '--length=300000', '--batch=3', '--json'];
const TARGET = ['--size=1M', '--buffers=2'];

async function moveBytes(common: string[], names: readonly [string, string]): Promise<string> {
  const [targetName, initiatorName] = names;
  await using target = await startTarget([...common, `--name=${targetName}`, ...TARGET], LOOPBACK);
  const { segment } = target;
  const own = [...common, `--name=${initiatorName}`, `--target=${segment}`];
  const run = await runTe(['initiator', ...own, ...WORK], LOOPBACK);
  expect([run.code, run.stderr]).toEqual([0, '']);
  const operations = run.events.filter(({ event }) => event === 'op');
  expect(operations.map(({ op, ok, bytes }) => [op, ok, bytes])).toEqual([
    ['probe', true, 0],
    ['write', true, 900_000],
    ['verify', true, 900_000],
    ['read', true, 900_000],
    ['notify', true, 0],
  ]);
  expect(await target.ask('check 0 0 900000 42')).toEqual({ event: 'check', ok: true });
  expect(await target.ask('notifies')).toEqual({
    event: 'notifies',
    items: [{ name: 'te', msg: 'done' }],
  });
  expect(await target.quit()).toEqual({ code: 0, signal: null });
  return segment;
}

describe('target and initiator move bytes', () => {
  it('in P2P mode', async () => {
    await moveBytes(['--metadata=P2PHANDSHAKE'], ['127.0.0.1', '127.0.0.1']);
  });

  describe.each(storeModes)('in $title mode', ({ runs, start }) => {
    let mode: RunningMode;
    beforeAll(async () => {
      if (runs) mode = await start();
    });
    afterAll(() => mode?.stop());

    it.runIf(runs)('and leave nothing behind', async () => {
      const metadata = `--metadata=${mode.uri}`;
      expect(await moveBytes([metadata], ['te-target', 'te-initiator'])).toBe('te-target');
      const listed = await runTe(['metadata', 'list', metadata, '--json']);
      expect(listed.events).toEqual([{ event: 'listed', keys: 0 }]);
    });
  });
});

it('prune removes what dead engines left, and nothing else', async () => {
  const server = await createMetadataServer({ port: 0 });
  onTestFinished(() => server.close());
  const metadata = `--metadata=${server.url}`;
  await using alive = await startTarget([metadata, '--name=alive'], LOOPBACK);
  await using dead = await startTarget([metadata, '--name=dead/one'], LOOPBACK);
  const place = await runTe(['metadata', 'get', metadata, 'mooncake/rpc_meta/dead/one']);
  dead.child.kill('SIGKILL');
  await dead.exited;
  // As a C++ engine leaves it, which has no lease.
  await runTe(['metadata', 'put', metadata, 'mooncake/rpc_meta/dead/one', place.stdout]);
  await runTe(['metadata', 'put', metadata, 'mooncake/ram/orphan', '{}']);
  const dumped = await runTe(['metadata', 'dump', metadata, '--json']);
  expect(dumped.events.map(({ name }) => name)).toEqual(['alive', 'dead/one', 'orphan', undefined]);
  const prune = ['metadata', 'prune', metadata, '--grace=0', '--probe-timeout=1000', '--json'];
  const dry = await runTe([...prune, '--dry-run']);
  expect(dry.events.at(-1)).toMatchObject({ alive: 1, dead: 2, removed: 0, dry_run: true });
  expect(dry.events.map(({ name }) => name)).toEqual(['dead/one', 'orphan', undefined]);
  const pruned = await runTe(prune);
  expect(pruned.events.at(-1)).toMatchObject({ event: 'pruned', alive: 1, dead: 2 });
  const left = await runTe(['metadata', 'list', metadata, '--json']);
  expect(left.events.map(({ key }) => key)).toEqual([
    'mooncake/ram/alive',
    'mooncake/rpc_meta/alive',
    undefined,
  ]);
  expect(await alive.quit()).toEqual({ code: 0, signal: null });
});

it('a foreign server cannot be listed, and that is said', async () => {
  const server = createServer((_request, response) => {
    response.writeHead(400).end('key is missing');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  for (const command of ['list', 'dump', 'prune']) {
    const metadata = `--metadata=http://127.0.0.1:${port}/metadata`;
    const run = await runTe(['metadata', command, metadata, '--json']);
    expect(run.code).toBe(2);
    expect(run.events).toMatchObject([
      { event: 'error', error: { code: 'ERR_TE_NOT_IMPLEMENTED' } },
    ]);
  }
});
