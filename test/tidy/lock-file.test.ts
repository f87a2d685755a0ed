import { describe, expect, it } from 'vitest';
import { readManifest, readText } from './repository.ts';

interface LockEntry {
  readonly version?: string;
  readonly hasInstallScript?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const lockText = readText('package-lock.json');
const { packages } = JSON.parse(lockText) as {
  packages: Readonly<Record<string, LockEntry>>;
};

describe('package-lock.json', () => {
  it('names no registry: every machine uses its own', () => {
    expect(lockText.match(/"resolved": "https?:[^"]*"/g) ?? []).toEqual([]);
    expect(readText('.npmrc')).toMatch(/^omit-lockfile-registry-resolved=true$/m);
  });

  // A lock that was written where some platform's binary could not be fetched leaves it out without
  // a word, and `npm ci` in a fresh clone then refuses the lock.
  it('has an entry for every optional dependency, of every platform', () => {
    const names = Object.keys(packages);
    const wanted = Object.entries(packages).flatMap(([path, entry]) =>
      Object.keys(entry.optionalDependencies ?? {}).map((name) => ({ path, name })),
    );
    expect(wanted.length).toBeGreaterThan(0);
    const missing = wanted.filter(
      ({ name }) => !names.some((path) => path.endsWith(`node_modules/${name}`)),
    );
    expect(missing).toEqual([]);
  });

  it('has no dependency with an install script that package.json does not answer', () => {
    const { allowScripts } = readManifest('package.json') as {
      allowScripts?: Readonly<Record<string, boolean>>;
    };
    const withScript = Object.entries(packages)
      .filter(([, entry]) => entry.hasInstallScript === true)
      .map(([path]) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length));
    expect(withScript.filter((name) => allowScripts?.[name] === undefined)).toEqual([]);
  });
});
