// Runs the suites and ends with one line to read: "N passed, N failed".
//
//   node scripts/run-tests.mjs [--checks] [--runtime=NODE] [arguments of vitest]
//
// --checks    lint, formatting and the demo first; each counts as one test
// --runtime   another Node executable to run the suites on
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const own = process.argv.slice(2);
const checksWanted = take('--checks') !== undefined;
const runtime = take('--runtime') ?? process.execPath;

const total = { passed: 0, failed: 0, skipped: 0 };
if (checksWanted) {
  for (const script of ['lint', 'format:check', 'demo:built']) await check(script);
}
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
  const status = await run('npm', ['run', '--silent', script], process.platform === 'win32');
  if (status === 0) total.passed += 1;
  else total.failed += 1;
  console.log(status === 0 ? 'ok' : `failed: npm run ${script} ended with ${status}`);
}

async function suites(args) {
  const folder = mkdtempSync(join(tmpdir(), 'transfer-engine-tests-'));
  try {
    const report = join(folder, 'report.json');
    const status = await run(runtime, [
      join(root, 'node_modules/vitest/vitest.mjs'),
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${report}`,
      ...args,
    ]);
    count(read(report), status);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Counts tests; a file that could not even be loaded is one failed test. */
function count(report, status) {
  const before = total.failed;
  for (const file of report?.testResults ?? []) {
    let failedHere = 0;
    for (const { status } of file.assertionResults) {
      if (status === 'passed') total.passed += 1;
      else if (status === 'failed') failedHere += 1;
      else total.skipped += 1;
    }
    if (file.status === 'failed' && failedHere === 0) {
      console.log(`failed as a whole: ${relative(root, file.name)}`);
      failedHere = 1;
    }
    total.failed += failedHere;
  }
  // Errors outside of any test (an unhandled rejection, a crash) show in vitest's exit only.
  if (status !== 0 && total.failed === before) {
    console.log(`failed outside of any test: vitest ended with ${status}`);
    total.failed += 1;
  }
}

function read(report) {
  try {
    return JSON.parse(readFileSync(report, 'utf8'));
  } catch (error) {
    console.log(`no test report: ${error.message}`);
    return undefined;
  }
}

function run(command, args, shell = false) {
  const child = spawn(command, args, {
    cwd: root,
    stdio: 'inherit',
    shell,
    // Programs that the suites start by the name "node" are the same version as the suites.
    env: { ...process.env, PATH: `${dirname(runtime)}${delimiter}${process.env.PATH ?? ''}` },
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
