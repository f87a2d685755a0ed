// Makes a clone ready: installs what the lock file says when it is not installed, then builds.
//
// Runs before anything is installed, so it uses Node's own modules only. It is safe to start several
// commands at once in a fresh clone: one installs, the others wait for it.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { withFileLock } from './file-lock.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const windows = process.platform === 'win32';

const oldest = [20, 19];
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < oldest[0] || (major === oldest[0] && minor < oldest[1])) {
  fail(`Node ${process.versions.node} is too old; install Node ${oldest.join('.')} or newer`);
}

await withFileLock(join(root, '.cache', 'setup.lock'), async () => {
  // npm writes this file last, so an interrupted installation and a lock file that came with a pull
  // both make it the older one.
  if (modified('node_modules/.package-lock.json') < modified('package-lock.json')) {
    // The build needs development dependencies also where NODE_ENV says "production".
    await npm(['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error']);
  }
  await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b']);
  removeOrphans();
});

/** Removes what was built from sources that are gone: tsc leaves it, and it would be published. */
function removeOrphans() {
  for (const name of readdirSync(join(root, 'packages'))) {
    const dist = join(root, 'packages', name, 'dist');
    if (!existsSync(dist)) continue;
    for (const file of readdirSync(dist, { recursive: true })) {
      const source = file.replace(/([.]d[.]ts|[.]js)([.]map)?$/, '.ts');
      if (source === file) continue;
      if (!existsSync(join(root, 'packages', name, 'src', source))) rmSync(join(dist, file));
    }
  }
}

function modified(path) {
  const file = join(root, path);
  return existsSync(file) ? statSync(file).mtimeMs : 0;
}

/** Prefers the npm that started us: it may not be the one on the path. */
function npm(args) {
  const started = process.env.npm_execpath;
  return started?.endsWith('.js') && existsSync(started)
    ? run(process.execPath, [started, ...args])
    : run('npm', args, windows);
}

async function run(command, args, shell = false) {
  const child = spawn(command, args, { cwd: root, stdio: 'inherit', shell });
  const [status, problem] = await new Promise((resolve) => {
    child.once('error', (error) => resolve([1, error.message]));
    child.once('close', (code, signal) => resolve([code ?? 1, signal ?? `exit ${code}`]));
  });
  if (status !== 0) fail(`set-up stopped: "${command} ${args.join(' ')}" failed (${problem})`);
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
