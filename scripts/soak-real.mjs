// Plays the rounds in which real processes and sockets fail, for a long time.
//
//   node scripts/soak-real.mjs [--rounds=200] [--seed=N] [arguments of vitest]
//
// --rounds  of each scenario with each kind of target
// --seed    of the first round; the others follow it (default: a random one for each scenario)
//
// A round that finds something names its seed: --rounds=1 --seed=N -t "name of the scenario".
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const own = process.argv.slice(2);
const rounds = take('--rounds') ?? '200';
const seed = take('--seed') ?? '';

const child = spawn(
  process.execPath,
  [
    join(root, 'node_modules/vitest/vitest.mjs'),
    ...['run', '--project', 'e2e', 'test/e2e/robust-', ...own],
  ],
  {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, TRANSFER_ENGINE_ROUNDS: rounds, TRANSFER_ENGINE_SEED: seed },
  },
);
child.once('close', (code, signal) => {
  process.exitCode = signal === null ? (code ?? 1) : 1;
});

function take(name) {
  const index = own.findIndex((word) => word.startsWith(`${name}=`));
  return index < 0 ? undefined : own.splice(index, 1)[0]?.slice(name.length + 1);
}
