import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { cleanStaleObjects } from '@transfer-engine/transport-shm';

/**
 * A directory of shared objects for one test. When the test is over, nothing may be left in it but
 * what killed processes could not remove; that is what cleaning is for.
 */
export function scratchShm(
  cleanup: (step: () => unknown) => void,
  options: { readonly mode?: number } = {},
): string {
  const directory = mkdtempSync('/dev/shm/te-e2e-');
  if (options.mode !== undefined) chmodSync(directory, options.mode);
  cleanup(() => {
    cleanStaleObjects({ directory });
    const left = readdirSync(directory);
    rmSync(directory, { recursive: true, force: true });
    if (left.length > 0) throw new Error(`left in ${directory}: ${left.join(', ')}`);
  });
  return directory;
}
