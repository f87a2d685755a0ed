import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

interface Packed {
  readonly name: string;
  readonly version: string;
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}
interface ProgramResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const root = fileURLToPath(new URL('../..', import.meta.url));
const folders = ['core', 'transport-tcp', 'transport-shm', 'metadata', 'cli'];

const work = mkdtempSync(join(tmpdir(), 'transfer-engine-pack-'));
const project = mkdtempSync(join(tmpdir(), 'transfer-engine-consumer-'));
let packed: readonly Packed[] = [];

afterAll(() => {
  rmSync(work, { recursive: true, force: true });
  rmSync(project, { recursive: true, force: true });
});

function run(command: string, args: readonly string[], cwd: string): Promise<ProgramResult> {
  // Under `npm test` npm says where the project is; the npm that runs here has another one.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^(npm_config_local_prefix|npm_package_|npm_lifecycle_|VITEST)/.test(name),
    ),
  );
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, ...output }));
  });
}

function npm(args: readonly string[], cwd: string): Promise<ProgramResult> {
  const started = process.env['npm_execpath'];
  return started?.endsWith('.js') === true
    ? run(process.execPath, [started, ...args], cwd)
    : run('npm', args, cwd);
}

const tarball = ({ filename }: Packed) => join(work, filename);

/** The first block of this language in the README. */
function readmeBlock(language: string): string {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const block = new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'm').exec(readme)?.[1];
  if (block === undefined) throw new Error(`README.md has no block of ${language}`);
  return block;
}

beforeAll(async () => {
  const workspaces = folders.flatMap((folder) => ['-w', `packages/${folder}`]);
  const result = await npm(['pack', '--json', '--pack-destination', work, ...workspaces], root);
  expect(result.status, result.stderr).toBe(0);
  const report = JSON.parse(result.stdout) as Packed[] | Record<string, Packed>;
  packed = Array.isArray(report) ? report : Object.values(report);
});

describe.each(folders)('the package of %s', (folder) => {
  const find = () => {
    const found = packed.find(({ name }) => name === `@transfer-engine/${folder}`);
    if (found === undefined) throw new Error(`npm pack made no package of ${folder}`);
    return found;
  };

  it('has the build, its sources and the licence, and no tests', () => {
    const paths = find().files.map(({ path }) => path);
    expect(paths).toEqual(
      expect.arrayContaining(['LICENSE', 'README.md', 'dist/index.js', 'src/index.ts']),
    );
    expect(paths.filter((path) => /[.]test[.]|tsbuildinfo/.test(path))).toEqual([]);
    // A build that is older than the sources would leave files of the past in the package.
    const built = paths.filter((path) => /^dist\/.*[.]js$/.test(path));
    const orphans = built.filter(
      (path) => !paths.includes(path.replace(/^dist/, 'src').replace(/js$/, 'ts')),
    );
    expect(orphans).toEqual([]);
  });

  it('is what publint wants', async () => {
    const bytes = readFileSync(tarball(find()));
    const { messages, pkg } = await publint({
      strict: true,
      pack: { tarball: new Uint8Array(bytes).buffer },
    });
    expect(messages.map((message) => formatMessage(message, pkg, { color: false }))).toEqual([]);
  });

  it('has types that a consumer finds', async () => {
    const attw = join(root, 'node_modules/@arethetypeswrong/cli/dist/index.js');
    const args = [attw, tarball(find()), '--profile', 'esm-only', '--no-color', '--no-emoji'];
    const { status, stdout, stderr } = await run(process.execPath, args, work);
    expect(status, stdout + stderr).toBe(0);
  });
});

describe('an empty project', () => {
  beforeAll(async () => {
    writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }\n');
    const install = ['install', '--no-audit', '--no-fund', '--prefer-offline'];
    const { status, stderr } = await npm([...install, ...packed.map(tarball)], project);
    expect(status, stderr).toBe(0);
  });

  it('installs one copy of every package', () => {
    for (const { name } of packed) {
      expect(existsSync(join(project, 'node_modules', name, 'package.json')), name).toBe(true);
      for (const other of packed) {
        const nested = join(project, 'node_modules', name, 'node_modules', other.name);
        expect(existsSync(nested), nested).toBe(false);
      }
    }
  });

  it('runs the first example of the README, which prints what the README says', async () => {
    writeFileSync(join(project, 'example.js'), readmeBlock('js'));
    const { status, stdout, stderr } = await run(process.execPath, ['example.js'], project);
    expect(stderr).toBe('');
    expect(stdout).toBe(readmeBlock('text'));
    expect(status).toBe(0);
  });

  it('has a program te that knows its version', async () => {
    const te = join(project, 'node_modules/.bin/te');
    const { status, stdout, stderr } = await run(process.execPath, [te, '--version'], project);
    expect(status, stderr).toBe(0);
    expect(stdout).toContain(packed[0]?.version);
  });
  it('has a program te with the commands of the README', async () => {
    const readme = readFileSync(join(root, 'README.md'), 'utf8');
    const commands = [...readme.matchAll(/^\| `te ([a-z]+)/gm)].map(([, name]) => name ?? '');
    expect(commands).toContain('demo');
    const te = join(project, 'node_modules/.bin/te');
    const { status, stdout, stderr } = await run(process.execPath, [te, '--help'], project);
    expect(status, stderr).toBe(0);
    for (const command of commands) expect(stdout).toMatch(new RegExp(`\\b${command}\\b`));
  });
});
