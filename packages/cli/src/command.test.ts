import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { runCli } from './cli.ts';
import { COMMANDS } from './commands/index.ts';
import { Shutdown } from './shutdown.ts';
import { packageVersion } from './version.ts';

async function run(argv: readonly string[], isTTY = false) {
  let stdout = '';
  let stderr = '';
  const code = await runCli(
    argv,
    {
      stdin: Readable.from([]),
      stdout: { isTTY, write: (text) => (stdout += text) },
      stderr: { write: (text) => (stderr += text) },
      environment: {},
    },
    new Shutdown(),
  );
  return { code, stdout, stderr };
}

describe('help and version', () => {
  it('lists the commands that people use', async () => {
    for (const argv of [[], ['--help'], ['-h'], ['help']]) {
      const { code, stdout } = await run(argv);
      expect(code).toBe(0);
      for (const command of COMMANDS) {
        expect(stdout.includes(`  ${command.name} `)).toBe(!command.internal);
      }
    }
  });

  it.each(COMMANDS.map((command) => command.name))('explains %s and its options', async (name) => {
    const { code, stdout } = await run([...name.split(' '), '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain(`usage: te ${name}`);
    expect(stdout).toContain('--json');
    // A default can be the path of the running Node, which is as long as it is.
    const lines = stdout.replaceAll(process.execPath, 'node').split('\n');
    expect(lines.filter((line) => line.length > 130)).toEqual([]);
  });

  it('prints the version of the package', async () => {
    expect((await run(['--version'])).stdout).toBe(`${packageVersion()}\n`);
    expect(packageVersion()).toMatch(/^\d+\.\d+\.\d+/);
  });
});

describe('command lines that are refused end with 2 before anything happens', () => {
  it.each([
    [['nonsense'], 'command "nonsense" is unknown; accepted: demo, target'],
    [['metadata', 'drop'], 'command "metadata drop" is unknown; accepted: metadata serve'],
    [['target', '--size=none'], 'option --size is "none"'],
    [['target', '--transports=pigeon'], 'option --transports is "pigeon"'],
    [['target', 'extra'], 'argument "extra"'],
    [['target', '--metadata=http://127.0.0.1:1/m'], 'option --name is missing'],
    [['initiator', '--op=write'], 'option --target is missing'],
    [['initiator', '--target=a'], 'option --op is missing'],
    [['initiator', '--target=a', '--op=write,erase'], 'option --op is "write,erase"'],
    [['initiator', '--target=a', '--op=write', '--addr=x'], 'option --addr is "x"'],
    [['bench'], '--loopback and --target'],
    [['bench', '--loopback', '--target=a'], '--loopback and --target'],
    [['bench', '--loopback', '--metadata=http://127.0.0.1:1/m'], 'option --metadata is'],
    [['bench', '--loopback', '--block=1G', '--batch=1000'], '--block times --batch'],
    [['bench', '--loopback', '--block=1', '--batch=1000', '--depth=1001'], '--batch times --depth'],
    [['metadata', 'get', '--metadata=http://127.0.0.1:1/m'], 'argument KEY'],
    [['metadata', 'put', '--metadata=http://127.0.0.1:1/m', 'key'], 'argument VALUE'],
    [['metadata', 'get', '--metadata=P2PHANDSHAKE', 'key'], 'peer-to-peer mode has none'],
    [['demo', '--file=/does/not/exist'], 'option --file cannot be read'],
  ])('%j', async (argv, message) => {
    const text = await run([...argv, '--json=false']);
    expect(text.code).toBe(2);
    expect(text.stdout).toBe('');
    expect(text.stderr).toContain(message);

    const json = await run([...argv, '--json']);
    expect(json.code).toBe(2);
    expect(json.stderr).toBe('');
    const event = JSON.parse(json.stdout) as { event: string; error: Record<string, string> };
    expect(event.event).toBe('error');
    expect(Object.keys(event.error)).toEqual(['code', 'message']);
    expect(event.error['code']).toBe('ERR_TE_INVALID_ARGUMENT');
    expect(event.error['message']).toContain(message);
  });

  it('speaks JSON to pipes for the commands that programs drive', async () => {
    expect((await run(['target', '--size=x'])).stdout).toContain('"event":"error"');
    expect((await run(['target', '--size=x'], true)).stdout).toBe('');
    expect((await run(['demo', '--size=x'])).stdout).toBe('');
  });
});
