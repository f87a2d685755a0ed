import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readManifest, readText, repositoryFiles, root, workspaces } from './repository.ts';

const rootManifest = readManifest('package.json');
const all = workspaces();
const published = all.filter(({ manifest }) => manifest.private !== true);
const commonVersion = published[0]?.manifest.version;
const names = new Set(all.map(({ manifest }) => manifest.name));
const installHooks = ['preinstall', 'install', 'postinstall', 'prepare', 'prepublish'];

describe.each(all)('$folder/package.json', ({ folder, manifest }) => {
  it('is one of ours', () => {
    expect(manifest.name).toBe(`@transfer-engine/${folder.replace(/^packages\//, '')}`);
    expect(manifest.type).toBe('module');
  });

  it('runs nothing when it is installed', () => {
    expect(
      Object.keys(manifest.scripts ?? {}).filter((name) => installHooks.includes(name)),
    ).toEqual([]);
  });

  it('asks for siblings at exactly the common version', () => {
    const siblings = Object.entries({
      ...manifest.dependencies,
      ...manifest.devDependencies,
    }).filter(([name]) => names.has(name));
    const versions = new Set(siblings.map(([, version]) => version));
    expect([...versions].filter((version) => version !== commonVersion)).toEqual([]);
  });

  it('is in the solution file, so that it is built and type-checked', () => {
    const { references } = JSON.parse(readText('tsconfig.json')) as {
      references: { path: string }[];
    };
    const project = folder === 'test' ? './tsconfig.test.json' : folder;
    expect(references.map(({ path }) => path)).toContain(project);
  });
});

describe.each(published)('$folder, which is published', ({ folder, manifest }) => {
  it('says what it is and what it needs', () => {
    expect(manifest.version).toBe(commonVersion);
    expect(manifest.description).toMatch(/\w/);
    expect(manifest.license).toBe('Apache-2.0');
    expect(manifest.engines?.node).toBe(rootManifest.engines?.node);
    expect(readText(`${folder}/LICENSE`)).toBe(readText('LICENSE'));
    expect(existsSync(join(root, folder, 'README.md'))).toBe(true);
  });

  it('exports doors that have a source', () => {
    const doors = Object.entries(manifest.exports ?? {}).filter(
      ([door]) => door !== './package.json',
    );
    expect(doors.map(([door]) => door)).toContain('.');
    for (const [door, target] of doors) {
      const path = door === '.' ? 'index' : `${door.slice(2)}/index`;
      expect(target, door).toEqual({
        types: `./dist/${path}.d.ts`,
        default: `./dist/${path}.js`,
      });
      expect(existsSync(join(root, folder, 'src', `${path}.ts`)), `source of ${door}`).toBe(true);
    }
    expect(manifest.exports?.['./package.json']).toBe('./package.json');
  });

  it('publishes what was built and its sources, without tests', () => {
    expect(manifest.files).toEqual(
      expect.arrayContaining(['dist', '!dist/.tsbuildinfo', 'src', '!src/**/*.test.ts']),
    );
  });

  it('has programs that are in the repository, executable and plain', () => {
    for (const path of Object.values(manifest.bin ?? {})) {
      const file = join(folder, path);
      expect(repositoryFiles()).toContain(file);
      expect(readText(file)).toMatch(/^#!\/usr\/bin\/env node\n/);
    }
  });
});

describe('package.json', () => {
  it('is not published and answers for tools only', () => {
    expect(rootManifest.private).toBe(true);
    expect(rootManifest.dependencies).toBeUndefined();
  });

  it('has exact versions of tools, so that a new lock file is the same', () => {
    const ranges = Object.entries(rootManifest.devDependencies ?? {}).filter(
      ([name, version]) =>
        !/^\d+[.]\d+[.]\d+$/.test(version) && !['@eslint/js', '@types/node'].includes(name),
    );
    expect(ranges).toEqual([]);
  });
});
