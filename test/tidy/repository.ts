import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

/** What a package.json may hold, as far as the checks look at it. */
export interface Manifest {
  readonly name: string;
  readonly version?: string;
  readonly private?: boolean;
  readonly description?: string;
  readonly license?: string;
  readonly type?: string;
  readonly engines?: { readonly node?: string };
  readonly workspaces?: readonly string[];
  readonly exports?: Readonly<Record<string, string | Readonly<Record<string, string>>>>;
  readonly files?: readonly string[];
  readonly bin?: Readonly<Record<string, string>>;
  readonly scripts?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

export interface Workspace {
  /** Folder from the root, with slashes: "packages/core". */
  readonly folder: string;
  readonly manifest: Manifest;
}

export function readText(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

export function readManifest(path: string): Manifest {
  return JSON.parse(readText(path)) as Manifest;
}

/** Every file of the repository, from the root, with slashes; without what .gitignore names. */
export function repositoryFiles(): string[] {
  const ignored = readText('.gitignore').split('\n').filter(Boolean);
  const folders = new Set(['.git/', ...ignored.filter((line) => line.endsWith('/'))]);
  const endings = ignored.filter((line) => line.startsWith('*.')).map((line) => line.slice(1));
  const files: string[] = [];
  const pending = [''];
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      if (entry.isDirectory()) {
        if (!folders.has(`${entry.name}/`)) pending.push(`${folder}${entry.name}/`);
      } else if (
        !ignored.includes(entry.name) &&
        !endings.some((end) => entry.name.endsWith(end))
      ) {
        files.push(folder + entry.name);
      }
    }
  }
  return files.sort();
}

export function workspaces(): Workspace[] {
  return repositoryFiles()
    .filter((file) => /^(packages\/[^/]+|test|benchmarks)\/package[.]json$/.test(file))
    .map((file) => ({
      folder: file.slice(0, -'/package.json'.length),
      manifest: readManifest(file),
    }));
}

export interface ProgramResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a tool of node_modules by its path, on the Node that runs the tests. */
export function runTool(
  path: string,
  args: readonly string[],
  options: { readonly cwd?: string } = {},
): Promise<ProgramResult> {
  return runProgram([join(root, 'node_modules', path), ...args], options);
}

/** Runs Node with these arguments. */
export async function runProgram(
  args: readonly string[],
  options: { readonly cwd?: string } = {},
): Promise<ProgramResult> {
  // A program that is itself vitest must not take itself for one of our workers.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(VITEST|NODE_OPTIONS|TEST$)/.test(name)),
  );
  const child = spawn(process.execPath, args, {
    cwd: options.cwd ?? root,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, ...output }));
  });
}
