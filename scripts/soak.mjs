// Runs the simulation of engines for a long time.
//
//   node scripts/soak.mjs [--seeds=100000] [--from=N] [--jobs=N]   seeds, then a thousand engines
//   node scripts/soak.mjs --engines                                a thousand engines alone
//
// --seeds  how many seeds; --from  the first one (default: the time, in seconds)
// --jobs   how many run side by side (default 2)
//
// Seeds that fail are named at once, and belong into test/simulation/regressions.ts.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const options = new Map(
  process.argv.slice(2).map((word) => {
    const [name, value] = word.split('=');
    return [name, value ?? ''];
  }),
);
for (const name of options.keys()) {
  if (!['--seeds', '--from', '--jobs', '--engines'].includes(name)) {
    console.error(`unknown option ${name}; known: --seeds=N, --from=N, --jobs=N, --engines`);
    process.exit(2);
  }
}

const statuses = options.has('--engines') ? [] : [await seeds()];
statuses.push(await engines());
process.exitCode = Math.max(...statuses);

async function engines() {
  const { status, output } = await vitest('test/simulation/scale.test.ts', { TE_SCALE: 'full' });
  console.log(output);
  return status;
}

async function seeds() {
  const total = number('--seeds', 100_000);
  const first = number('--from', Math.floor(Date.now() / 1000));
  const jobs = number('--jobs', 2);
  const chunk = Math.min(2_000, Math.ceil(total / jobs));
  const startMs = Date.now();
  let failures = 0;
  let next = 0;
  let done = 0;
  const work = async () => {
    while (next < total) {
      const from = first + next;
      const count = Math.min(chunk, total - next);
      next += count;
      const file = 'test/simulation/engines.test.ts';
      const { status, output } = await vitest(file, { TE_SEEDS: `${from}:${count}` });
      done += count;
      if (status !== 0) {
        failures += 1;
        tell(from, output);
      }
      const seconds = (Date.now() - startMs) / 1000;
      const left = Math.round((seconds / done) * (total - done));
      console.log(`${done} of ${total} seeds, ${failures} failed runs, ${left} s left`);
    }
  };
  console.log(`seeds ${first} to ${first + total - 1}`);
  await Promise.all(Array.from({ length: jobs }, work));
  console.log(`${total} seeds, ${failures} failed runs`);
  return failures === 0 ? 0 : 1;
}

/** Names what failed in one run of seeds. */
function tell(from, output) {
  const found = output.match(/seed \d+: .*/g) ?? [`seeds from ${from}: ${output.slice(-2000)}`];
  for (const line of new Set(found)) console.log(line);
}

function number(name, standard) {
  const text = options.get(name);
  const value = text === undefined ? standard : Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  console.error(`${name}=${text}; expected a number`);
  process.exit(2);
}

function vitest(file, env) {
  const program = join(root, 'node_modules/vitest/vitest.mjs');
  const child = spawn(process.execPath, [program, 'run', '--project', 'unit', file], {
    cwd: root,
    env: { ...process.env, NO_COLOR: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => (output += text));
  }
  return new Promise((resolve) => {
    child.once('close', (code) => resolve({ status: code ?? 1, output }));
  });
}
