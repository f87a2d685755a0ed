import { execFileSync } from 'node:child_process';

/** Seeds that nobody has to remember: other ones every day, and with every commit. */
export function freshSeedBase(): number {
  const day = Math.floor(Date.now() / 86_400_000);
  let commit = 0;
  try {
    const text = execFileSync('git', ['rev-parse', 'HEAD'], { encoding: 'utf8', stdio: 'pipe' });
    commit = Number.parseInt(text.slice(0, 7), 16);
  } catch {
    // Not a working copy: the day has to do.
  }
  return (Math.imul(day, 0x9e3779b1) ^ commit) >>> 1;
}

/** `TE_SEEDS=from:count`, as the soak run asks for. */
export function askedRange(): { readonly from: number; readonly count: number } | undefined {
  const text = process.env['TE_SEEDS'];
  if (text === undefined) return undefined;
  const [from, count] = text.split(':').map(Number);
  if (!Number.isSafeInteger(from) || !Number.isSafeInteger(count)) {
    throw new Error(`TE_SEEDS=${text}; expected from:count, such as 0:1000`);
  }
  return { from: from as number, count: count as number };
}
