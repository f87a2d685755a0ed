// Runs the suites on the other Node releases that we support: npm run test:nodes [-- 22 24]
//
// The runtimes come from npm, as the packages that hold nothing but the binary, into a folder of
// their own: they are no dependencies of ours. The build and npm stay on the Node that runs this.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { withFileLock } from './file-lock.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const releases = process.argv.length > 2 ? process.argv.slice(2) : ['22', '24'];

const lines = [];
let failed = false;
for (const release of releases) {
  const node = await fetchRuntime(release);
  const version = (await run(node, ['--version'])).lastLine;
  console.log(`\n== Node ${version}`);
  const { status, lastLine } = await run(process.execPath, [
    'scripts/run-tests.mjs',
    `--runtime=${node}`,
  ]);
  lines.push(`Node ${version}: ${lastLine}`);
  if (status !== 0) failed = true;
}
console.log(`\n${lines.join('\n')}`);
process.exitCode = failed ? 1 : 0;

/** Path of the node binary of a release line, downloaded at the first use. */
async function fetchRuntime(release) {
  const folder = join(root, '.cache', `node-${release}`);
  const packageName = `node-${process.platform}-${process.arch}`;
  const binary = join(folder, 'node_modules', packageName, 'bin', 'node');
  await withFileLock(`${folder}.lock`, async () => {
    if (existsSync(binary)) return;
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
    const install = ['install', '--no-audit', '--no-fund', '--loglevel=error', '--ignore-scripts'];
    const { status } = await run('npm', [...install, `${packageName}@${release}`], folder);
    if (status !== 0) throw new Error(`npm could not install ${packageName}@${release}`);
  });
  return binary;
}

/** Runs a program, shows its output, and keeps the last line of it. */
function run(command, args, cwd = root) {
  const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'inherit'] });
  let tail = '';
  child.stdout.on('data', (chunk) => {
    process.stdout.write(chunk);
    tail = (tail + chunk.toString('utf8')).slice(-1000);
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) =>
      resolve({ status: code ?? 1, lastLine: tail.trim().split('\n').at(-1) ?? '' }),
    );
  });
}
