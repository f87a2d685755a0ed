import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** What the suites of metadata stores need, and the packages of Debian and Ubuntu that have it. */
const services = [
  { program: 'etcd', packages: ['etcd-server', 'etcd'] },
  { program: 'redis-server', packages: ['redis-server'] },
];

const told = 'TRANSFER_ENGINE_SERVICES_LOOKED_FOR';
/** Programs of packages start on their own after an installation unless this file says no. */
const policy = '/usr/sbin/policy-rc.d';

/**
 * Looks for the servers that some suites start, and installs them where that can be done without
 * asking: as root, on Debian and Ubuntu. Says which suites are left out otherwise. With CI=true
 * they are not left out, so they fail.
 */
export async function prepareServices() {
  if (process.env[told] !== undefined) return;
  process.env[told] = 'yes';
  const missing = services.filter(({ program }) => !isInstalled(program));
  if (missing.length === 0) return;
  if (canInstall()) await install(missing.map(({ packages }) => packages));
  for (const { program, packages } of missing) {
    if (isInstalled(program)) continue;
    console.log(
      `${program} is not installed: its suites ${process.env.CI ? 'will fail' : 'are left out'}. ` +
        `Install it, on Debian and Ubuntu with: apt-get install ${packages[0]}`,
    );
  }
}

function isInstalled(program) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => isExecutable(join(folder, program)));
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function canInstall() {
  if (process.getuid?.() !== 0 || !isInstalled('apt-get')) return false;
  const system = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  return /^ID(_LIKE)?=.*(debian|ubuntu)/m.test(system);
}

async function install(wanted) {
  console.log(`Installing ${wanted.map(([name]) => name).join(' and ')} with apt-get ...`);
  const quiet = !existsSync(policy);
  if (quiet) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    await aptGet(['update']);
    for (const names of wanted) {
      // A release has one of them.
      for (const name of names) if ((await aptGet(['install', name])) === 0) break;
    }
  } finally {
    if (quiet) rmSync(policy, { force: true });
  }
}

/** Resolves to the exit code. */
function aptGet(args) {
  const child = spawn('apt-get', ['-qq', '-y', '--no-install-recommends', ...args], {
    stdio: ['ignore', 'ignore', 'ignore'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  return new Promise((resolve) => {
    child.once('error', () => resolve(1));
    child.once('close', (code) => resolve(code ?? 1));
  });
}
