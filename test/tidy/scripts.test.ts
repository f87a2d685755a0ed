import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { root, runProgram } from './repository.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'transfer-engine-scripts-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('file-lock.mjs', () => {
  const lock = () => join(folder, 'x.lock');

  /** Holds the lock a few times; fails when somebody else is inside at the same time. */
  const program = () => `
    import { mkdirSync, rmdirSync } from 'node:fs';
    import { setImmediate as turn } from 'node:timers/promises';
    import { withFileLock } from ${JSON.stringify(pathToFileURL(join(root, 'scripts/file-lock.mjs')))};
    for (let i = 0; i < 20; i += 1) {
      await withFileLock(${JSON.stringify(lock())}, async () => {
        mkdirSync(${JSON.stringify(join(folder, 'inside'))});
        await turn();
        rmdirSync(${JSON.stringify(join(folder, 'inside'))});
      });
    }`;
  const hold = () => runProgram(['--input-type=module', '-e', program()]);

  it('lets one process in at a time', async () => {
    const results = await Promise.all([hold(), hold(), hold()]);
    for (const { status, stderr } of results) expect(status, stderr).toBe(0);
    expect(existsSync(lock())).toBe(false);
  });

  it('takes over from a process that died', async () => {
    const { pid } = spawnSync(process.execPath, ['-e', '']);
    writeFileSync(lock(), String(pid));
    const results = await Promise.all([hold(), hold()]);
    for (const { status, stderr } of results) expect(status, stderr).toBe(0);
  });

  it('is released when the work throws', async () => {
    const { withFileLock } = (await import(
      pathToFileURL(join(root, 'scripts/file-lock.mjs')).href
    )) as { withFileLock(path: string, work: () => Promise<void>): Promise<void> };
    const work = () => Promise.reject(new Error('no space left'));
    await expect(withFileLock(lock(), work)).rejects.toThrow('no space left');
    expect(existsSync(lock())).toBe(false);
  });
});

describe('run-tests.mjs', () => {
  const suite = (name: string, content: string) => writeFileSync(join(folder, name), content);
  const run = async () => {
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    suite('vitest.config.mjs', 'export default {};');
    const script = join(root, 'scripts/run-tests.mjs');
    const { status, stdout } = await runProgram([script, `--root=${folder}`]);
    return { status, lastLine: stdout.trimEnd().split('\n').at(-1) };
  };

  it('counts what passed', async () => {
    suite('a.test.js', "import { it } from 'vitest'; it('a', () => {}); it('b', () => {});");
    expect(await run()).toEqual({ status: 0, lastLine: '2 passed, 0 failed' });
  });

  it('counts failed tests, files that do not load, and errors outside of tests', async () => {
    suite(
      'a.test.js',
      "import { it } from 'vitest'; it('a', () => {}); it('b', () => { throw 1; });",
    );
    suite('b.test.js', "import './nowhere.js';");
    suite(
      'c.test.js',
      "import { beforeAll, it } from 'vitest'; beforeAll(() => { throw 1; }); it('a', () => {});",
    );
    suite('d.test.js', "import { it } from 'vitest'; it('a', () => void Promise.reject(1));");
    expect(await run()).toEqual({ status: 1, lastLine: '2 passed, 4 failed' });
  });

  it('does not take "nothing ran" for success', async () => {
    expect(await run()).toEqual({ status: 1, lastLine: '0 passed, 1 failed' });
  });
});
