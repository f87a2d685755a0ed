import { readFile, rm, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { EngineError } from '@transfer-engine/core/metadata';

/** Files that this process holds: after a restart in a container it may have its old number. */
const held = new Set<string>();

/**
 * Claims a file for this process, by a file `<path>.lock` that holds the process's number.
 *
 * @returns what gives it back
 * @throws EngineError `ERR_TE_METADATA` while another process has it
 */
export async function lockFile(path: string): Promise<() => Promise<void>> {
  const lock = `${resolve(path)}.lock`;
  const owner = held.has(lock) ? process.pid : await ownerOf(lock);
  if (owner !== undefined && (held.has(lock) || (owner !== process.pid && isAlive(owner)))) {
    throw new EngineError(
      'ERR_TE_METADATA',
      `the metadata file ${path} is used by process ${owner}; end it, or choose another file`,
      { details: { path, owner } },
    );
  }
  held.add(lock);
  await writeFile(lock, String(process.pid)).catch((error: unknown) => {
    held.delete(lock);
    throw EngineError.from(error, 'ERR_TE_METADATA', `the metadata file ${path} cannot be used`);
  });
  return async () => {
    await rm(lock, { force: true });
    held.delete(lock);
  };
}

async function ownerOf(lock: string): Promise<number | undefined> {
  const text = await readFile(lock, 'utf8').catch(() => '');
  return /^\d+$/.test(text) ? Number(text) : undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // It exists and belongs to somebody else.
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
