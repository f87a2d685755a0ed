import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runTe, Te } from './cli-process.ts';

let server: Te;
let metadata = '';

beforeAll(async () => {
  server = new Te(['metadata', 'serve', '--port', '0', '--path', '/kv', '--json']);
  const ready = await server.next();
  expect(Object.keys(ready)).toEqual(['event', 'uri', 'host', 'port', 'path']);
  expect(ready).toMatchObject({ event: 'ready', host: '127.0.0.1', path: '/kv' });
  metadata = `--metadata=${String(ready['uri'])}`;
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

describe('te metadata', () => {
  it('puts, gets and removes documents', async () => {
    const value = '{"name":"a","n":18446744073709551615}';
    const missing = await runTe(['metadata', 'get', metadata, 'mooncake/ram/a', '--json']);
    expect(missing.code).toBe(1);
    expect(missing.events).toMatchObject([{ event: 'error', error: { code: 'ERR_TE_METADATA' } }]);
    expect(await runTe(['metadata', 'put', metadata, 'mooncake/ram/a', value])).toMatchObject({
      code: 0,
      stdout: 'stored mooncake/ram/a',
    });
    expect((await runTe(['metadata', 'get', metadata, 'mooncake/ram/a'])).stdout).toBe(value);
    const got = await runTe(['metadata', 'get', metadata, 'mooncake/ram/a', '--json']);
    expect(got.events).toEqual([{ event: 'get', key: 'mooncake/ram/a', value }]);
    expect((await runTe(['metadata', 'rm', metadata, 'mooncake/ram/a', '--json'])).events).toEqual([
      { event: 'rm', key: 'mooncake/ram/a' },
    ]);
    expect((await runTe(['metadata', 'rm', metadata, 'mooncake/ram/a'])).code).toBe(0);
    expect((await runTe(['metadata', 'get', metadata, 'mooncake/ram/a'])).code).toBe(1);
  });

  it('ends with 2 when the store cannot be reached, or the port is taken', async () => {
    const gone = await runTe([
      'metadata',
      'get',
      '--metadata=http://127.0.0.1:1/m',
      'key',
      '--json',
    ]);
    expect(gone.code).toBe(2);
    expect(gone.events).toMatchObject([{ event: 'error', error: { code: 'ERR_TE_METADATA' } }]);
    const port = new URL(metadata.slice('--metadata='.length)).port;
    const taken = await runTe(['metadata', 'serve', `--port=${port}`, '--json']);
    expect(taken.code).toBe(2);
    expect(taken.events).toMatchObject([{ error: { code: 'ERR_TE_PORT_UNAVAILABLE' } }]);
  });

  it('keeps documents in a file through kill -9, and asks for the token', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'transfer-engine-serve-'));
    try {
      const environment = { TE_METADATA_TOKEN: 'secret' };
      const serve = ['metadata', 'serve', '--port=0', '--json', `--data=${folder}/documents`];
      const first = new Te(serve, { environment });
      const before = `--metadata=${String((await first.next())['uri'])}`;
      const value = '{"n":18446744073709551615}';
      const put = ['metadata', 'put', before, 'mooncake/ram/a', value];
      expect((await runTe(put)).stderr).toContain('status 401');
      expect((await runTe(put, { environment })).code).toBe(0);
      first.child.kill('SIGKILL');
      await first.exited;
      await using second = new Te(serve, { environment });
      const after = `--metadata=${String((await second.next())['uri'])}`;
      const got = await runTe(['metadata', 'get', after, 'mooncake/ram/a'], { environment });
      expect(got.stdout).toBe(value);
      const other = await runTe(serve, { environment });
      expect(other.code).toBe(2);
      expect(other.events).toMatchObject([{ error: { code: 'ERR_TE_METADATA' } }]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('stops by a signal', async () => {
    await using other = new Te(['metadata', 'serve', '--port=0', '--json']);
    await other.next();
    other.child.kill('SIGTERM');
    expect(await other.exited).toEqual({ code: 143, signal: null });
  });
});

describe('te doctor', () => {
  it('tells what it found', async () => {
    const run = await runTe(['doctor', metadata, '--json']);
    expect(run.code).toBe(0);
    const [report] = run.events;
    expect(report).toMatchObject({ event: 'doctor', ok: true, node: process.version });
    const checks = report?.['checks'] as { name: string; level: string }[];
    expect(checks.find(({ name }) => name === 'metadata')?.level).toBe('ok');
    expect(checks.find(({ name }) => name === 'listen on 127.0.0.1')?.level).toBe('ok');
    expect((await runTe(['doctor'])).stdout).toContain('P2PHANDSHAKE needs no server');
  });

  it('fails when something does not work', async () => {
    const gone = await runTe(['doctor', '--metadata=http://127.0.0.1:1/m', '--json']);
    expect(gone.code).toBe(2);
    expect(gone.events).toMatchObject([{ event: 'doctor', ok: false }]);
    const address = await runTe(['doctor', '--host=192.0.2.1']);
    expect(address.code).toBe(1);
    expect(address.stdout).toMatch(/failed +listen on 192\.0\.2\.1/);
  });
});

it('explains itself', async () => {
  expect((await runTe(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+/);
  expect((await runTe(['--help'])).stdout).toContain('te COMMAND [options]');
  const wrong = await runTe(['bogus']);
  expect(wrong).toMatchObject({ code: 2, stdout: '' });
  expect(wrong.stderr).toContain('command "bogus" is unknown');
});
