import {
  availableParallelism,
  networkInterfaces,
  release,
  totalmem,
  type as osType,
} from 'node:os';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { cleanStaleObjects, mappings } from '@transfer-engine/transport-shm';
import { defineCommand, type CommandContext } from '../command.ts';
import { openMetadata, P2P } from '../engine-setup.ts';
import { ExitCode, reportOf } from '../failures.ts';
import { flag, text } from '../options.ts';
import { formatBytes } from '../units.ts';
import { packageVersion } from '../version.ts';

const METADATA_MS = 5_000;
/** A key that nobody uses: what counts is whether the store answers. */
const PROBE_KEY = 'mooncake/te-doctor/reachable';
/** Below this, thousands of peers with a few connections each meet the limit. */
const OPEN_FILES_WANTED = 4_096;

type Level = 'ok' | 'warning' | 'failed';
interface Check {
  readonly name: string;
  readonly level: Level;
  readonly detail: string;
}

export const doctor = defineCommand({
  name: 'doctor',
  summary: 'Looks at what transfers need: versions, addresses, ports, metadata, limits',
  options: {
    clean: flag('removes objects in /dev/shm that engines left which were killed'),
    metadata: text('URI', { help: 'also checks that this store answers', fallback: P2P }),
    host: text('ADDRESS', { help: 'also checks that ports of this address can be listened on' }),
  },
  async run({ metadata, host, clean }, context) {
    const checks = [
      checkNode(),
      ...(await Promise.all(
        ['127.0.0.1', '::1', '0.0.0.0', ...(host ? [host] : [])].map(checkPort),
      )),
      await checkOpenFiles(),
      checkMappings(),
      checkStaleObjects(clean),
    ];
    const reachable = await checkMetadata(metadata, context);
    checks.push(reachable);
    report(checks, context);
    if (reachable.level === 'failed') return ExitCode.setUpFailed;
    return checks.some(({ level }) => level === 'failed') ? ExitCode.operationFailed : ExitCode.ok;
  },
});

function report(checks: readonly Check[], { output }: CommandContext): void {
  const system = {
    version: packageVersion(),
    node: process.version,
    os: `${osType()} ${release()} ${process.arch}`,
    cpus: availableParallelism(),
    memory_bytes: totalmem(),
  };
  const addresses = interfaceAddresses();
  const ok = checks.every(({ level }) => level !== 'failed');
  const lines = [
    `te ${system.version}, Node ${system.node}, ${system.os}, ` +
      `${system.cpus} CPUs, ${formatBytes(system.memory_bytes)} of memory`,
    '',
    'addresses:',
    ...addresses.map((one) => `  ${one.interface.padEnd(12)} ${one.address}`),
    '',
    ...checks.map(({ name, level, detail }) => `${level.padEnd(8)} ${name}: ${detail}`),
  ];
  output.event(
    { event: 'doctor', ok, ...system, addresses, checks: checks.map((check) => ({ ...check })) },
    lines.join('\n'),
  );
}

function checkNode(): Check {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const good = major > 20 || (major === 20 && minor >= 19);
  return {
    name: 'node',
    level: good ? 'ok' : 'failed',
    detail: good ? process.version : `${process.version} is too old; use 20.19 or newer`,
  };
}

/** Listens on a port that the system chooses. A family that the host does not have is no failure. */
async function checkPort(address: string): Promise<Check> {
  const name = `listen on ${address}`;
  return await new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      const missingFamily = address === '::1' && error.code !== 'EACCES';
      resolve({ name, level: missingFamily ? 'warning' : 'failed', detail: error.message });
    });
    server.listen({ host: address, port: 0 }, () => {
      server.close(() => resolve({ name, level: 'ok', detail: 'a free port was found' }));
    });
  });
}

async function checkOpenFiles(): Promise<Check> {
  const name = 'open files';
  const limits = await readFile('/proc/self/limits', 'utf8').catch(() => '');
  const found = /^Max open files\s+(\d+|unlimited)/m.exec(limits)?.[1];
  if (found === undefined) {
    return { name, level: 'warning', detail: 'the limit is not known on this system' };
  }
  const few = found !== 'unlimited' && Number(found) < OPEN_FILES_WANTED;
  const advice = few ? `; raise it above ${OPEN_FILES_WANTED} for many peers (ulimit -n)` : '';
  return { name, level: few ? 'warning' : 'ok', detail: `limit ${found}${advice}` };
}

function checkMappings(): Check {
  const { available, reason } = mappings();
  return {
    name: 'shared memory',
    level: available ? 'ok' : 'warning',
    detail: available ? 'objects can be mapped' : `by file I/O only: ${reason}`,
  };
}

/** Objects of engines whose processes have ended without removing them. */
function checkStaleObjects(clean: boolean): Check {
  const name = 'objects left in /dev/shm';
  try {
    const stale = cleanStaleObjects({ dryRun: !clean });
    if (stale.length === 0) return { name, level: 'ok', detail: 'none' };
    const paths = stale.map(({ path, pid }) => `${path} (process ${pid})`).join(', ');
    if (clean) return { name, level: 'ok', detail: `removed ${paths}` };
    return { name, level: 'warning', detail: `${paths}; te doctor --clean removes them` };
  } catch (thrown) {
    return { name, level: 'warning', detail: reportOf(thrown).message };
  }
}

async function checkMetadata(uri: string, context: CommandContext): Promise<Check> {
  const name = 'metadata';
  try {
    const store = await openMetadata(uri, context.environment);
    if (store === undefined) return { name, level: 'ok', detail: `${P2P} needs no server` };
    try {
      await store.get(PROBE_KEY, { timeoutMs: METADATA_MS });
      return { name, level: 'ok', detail: `${store.description} answers` };
    } finally {
      await store.close();
    }
  } catch (thrown) {
    return { name, level: 'failed', detail: reportOf(thrown).message };
  }
}

function interfaceAddresses(): { interface: string; address: string; family: string }[] {
  return Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) =>
    addresses.map(({ address, family }) => ({ interface: name, address, family })),
  );
}
