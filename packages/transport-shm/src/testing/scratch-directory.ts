import { mkdtempSync, rmSync } from 'node:fs';

/** A directory for objects on the file system of shared memory, and what removes it. */
export function scratchDirectory(): { readonly path: string; remove(): void } {
  const path = mkdtempSync('/dev/shm/te-test-');
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
