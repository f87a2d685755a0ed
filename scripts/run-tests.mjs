// Runs the suites and ends with one line to read: "N passed, N failed".
//
//   node scripts/run-tests.mjs [--checks] [--runtime=NODE] [arguments of vitest]
//
// --checks    lint, formatting and the demo first; each counts as one test
// --runtime   another Node executable to run the suites on
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { prepareServices } from './services.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const own = process.argv.slice(2);
const checksWanted = take('--checks') !== undefined;
const runtime = take('--runtime') ?? process.execPath;

const total = { passed: 0, failed: 0, skipped: 0 };
if (checksWanted) {
  for (const script of ['lint', 'format:check', 'demo:built']) await check(script);
}
await prepareServices();
await suites(own);

if (total.skipped > 0) console.log(`${total.skipped} skipped`);
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;

function take(name) {
  const index = own.findIndex((word) => word === name || word.startsWith(`${name}=`));
  return index < 0 ? undefined : own.splice(index, 1)[0]?.slice(name.length + 1);
}

async function check(script) {
  console.log(`\n== npm run ${script}`);
  const status = await run('npm', ['run', '--silent', script], {
    shell: process.platform === 'win32',
  });
  if (status === 0) total.passed += 1;
  else total.failed += 1;
  console.log(status === 0 ? 'ok' : `failed: npm run ${script} ended with ${status}`);
}

async function suites(args) {
  const folder = mkdtempSync(join(tmpdir(), 'transfer-engine-tests-'));
  const file = join(folder, 'counts.json');
  const reporters = [
    '--reporter=default',
    `--reporter=${join(root, 'scripts/count-reporter.mjs')}`,
  ];
  try {
    const status = await run(
      runtime,
      [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...reporters, ...args],
      { env: { TRANSFER_ENGINE_TEST_COUNTS: file } },
    );
    const counts = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
    const { passed = 0, failed = 0, skipped = 0, notes = [] } = counts;
    for (const note of notes) console.log(note);
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
    // A crash of the runner, or nothing to run.
    if (status !== 0 && failed === 0) {
      total.failed += 1;
      console.log(`failed outside of any test: vitest ended with ${status}`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function run(command, args, { env = {}, shell = false } = {}) {
  // Programs that the suites start by the name "node" are the same version as the suites.
  const path = `${dirname(runtime)}${delimiter}${process.env.PATH ?? ''}`;
  const child = spawn(command, args, {
    cwd: root,
    stdio: 'inherit',
    shell,
    env: { ...process.env, PATH: path, ...env },
  });
  const forward = (signal) => child.kill(signal);
  process.on('SIGTERM', forward);
  return new Promise((resolve) => {
    const end = (status) => {
      process.off('SIGTERM', forward);
      resolve(status);
    };
    child.once('error', (error) => end(error.message));
    child.once('close', (code, signal) => end(signal ?? code ?? 1));
  });
}
