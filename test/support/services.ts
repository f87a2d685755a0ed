import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { freePorts } from './free-port.ts';
import { until, within } from './waiting.ts';

const START_MS = 20_000;
const STOP_MS = 3_000;

/** The path of a program, or undefined when it is not installed. */
export function findProgram(name: string): string | undefined {
  return [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/**
 * Whether suites that need these programs can run.
 *
 * Under CI everything has to run: the suites are not left out there, and fail.
 */
export function canRun(...programs: string[]): boolean {
  return process.env['CI'] !== undefined || programs.every((name) => findProgram(name));
}

interface Part {
  readonly program: string;
  readonly port: number;
  args(folder: string): string[];
}

/** A server of its own, on a loopback port of its own, with its data in a temporary folder. */
export class Service implements AsyncDisposable {
  readonly port: number;
  readonly #part: Part;
  readonly #ready: (port: number) => Promise<boolean>;
  #folder = '';
  #child: ChildProcess | undefined;
  #output = '';

  constructor(part: Part, ready: (port: number) => Promise<boolean>) {
    this.#part = part;
    this.#ready = ready;
    this.port = part.port;
  }

  /** Starts empty. */
  async start(): Promise<void> {
    const { program, port } = this.#part;
    const path = findProgram(program);
    if (path === undefined) throw new Error(`${program} is not installed`);
    this.#folder = mkdtempSync(join(tmpdir(), `transfer-engine-${program}-`));
    const args = [path, ...this.#part.args(this.#folder)];
    const child = await spawned(args);
    this.#child = child;
    this.#output = '';
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => {
        this.#output = (this.#output + chunk.toString()).slice(-4_000);
      });
    await until(
      async () => {
        if (child.exitCode !== null) throw new Error(`${program} ended:\n${this.#output}`);
        return await this.#ready(port);
      },
      START_MS,
      `the start of ${program}`,
    );
  }

  /** Ends at once, without a clean close; what it stored is gone. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'close');
      child.kill(signal);
      await within(ended, STOP_MS, `the end of ${this.#part.program}`);
    }
    if (this.#folder !== '') rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = '';
  }

  readonly restart = async (whileDown: () => Promise<void>): Promise<void> => {
    await this.kill();
    await whileDown();
    await this.start();
  };

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}

/** With the parent's death signal where there is one: a killed test run leaves no server behind. */
async function spawned(args: readonly string[]): Promise<ChildProcess> {
  const setpriv = findProgram('setpriv');
  const [command = '', ...rest] =
    setpriv === undefined ? args : [setpriv, '--pdeathsig', 'KILL', ...args];
  const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
  await once(child, 'spawn');
  return child;
}

export interface EtcdSettings {
  /** Largest document, in bytes; the default of etcd is 1.5 MiB. */
  readonly maxRequestBytes?: number;
}

export async function startEtcd({ maxRequestBytes }: EtcdSettings = {}): Promise<Service> {
  const port = await freePorts(2);
  const [client, peer] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${port + 1}`];
  const args = (folder: string) => [
    ...['--data-dir', folder, '--unsafe-no-fsync', '--log-level', 'error', '--logger', 'zap'],
    ...['--heartbeat-interval', '10', '--election-timeout', '100'],
    ...['--listen-client-urls', client, '--advertise-client-urls', client],
    ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
    ...['--initial-cluster', `default=${peer}`],
    ...(maxRequestBytes === undefined ? [] : ['--max-request-bytes', String(maxRequestBytes)]),
  ];
  // Listening is not enough: a leader is needed, too.
  const ready = () =>
    fetch(`${client}/health`).then(
      async (response) => (await response.text()).includes('true'),
      () => false,
    );
  const service = new Service({ program: 'etcd', port, args }, ready);
  await service.start();
  return service;
}

export async function startRedis(...more: string[]): Promise<Service> {
  const port = await freePorts(1);
  const args = (folder: string) => [
    ...['--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'no'],
    ...['--dir', folder, ...more],
  ];
  const service = new Service({ program: 'redis-server', port, args }, accepts);
  await service.start();
  return service;
}

/** Whether something accepts connections. */
export async function accepts(port: number): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1' });
  try {
    return await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
  } finally {
    socket.destroy();
  }
}

/** A cluster of one node, which has all slots. */
export async function startRedisCluster(): Promise<Service> {
  const service = await startRedis(
    '--cluster-enabled',
    'yes',
    '--cluster-announce-ip',
    '127.0.0.1',
  );
  await redisCommand(service.port, 'CLUSTER ADDSLOTSRANGE 0 16383');
  await until(
    async () => (await redisCommand(service.port, 'CLUSTER INFO')).includes('cluster_state:ok'),
    START_MS,
    'the cluster',
  );
  return service;
}

/** One sentinel that watches over the server at a port, as "mymaster". */
export async function startSentinel(masterPort: number): Promise<Service> {
  const port = await freePorts(1);
  const args = (folder: string) => {
    const file = join(folder, 'sentinel.conf');
    const lines = [
      `port ${port}`,
      'bind 127.0.0.1',
      `dir ${folder}`,
      `sentinel monitor mymaster 127.0.0.1 ${masterPort} 1`,
    ];
    writeFileSync(file, lines.join('\n'));
    return [file, '--sentinel'];
  };
  const service = new Service({ program: 'redis-server', port, args }, accepts);
  await service.start();
  return service;
}

/** The answer to one command, as it is on the wire. */
export async function redisCommand(port: number, command: string): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1' });
  try {
    socket.write(`${command}\r\n`);
    const [answer] = (await within(once(socket, 'data'), START_MS, command)) as [Buffer];
    return answer.toString();
  } finally {
    socket.destroy();
  }
}
