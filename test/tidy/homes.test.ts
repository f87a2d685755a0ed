import { describe, expect, it } from 'vitest';
import { relative, sep } from 'node:path';
import { readText, repositoryFiles, root, runTool, workspaces } from './repository.ts';

const word = '[a-z0-9]+(-[a-z0-9]+)*';
const packages = workspaces()
  .map(({ folder }) => folder)
  .filter((folder) => folder.startsWith('packages/'))
  .map((folder) => folder.slice('packages/'.length))
  .join('|');

/** Where files may be. A new kind of file needs a line here, and a sentence in ARCHITECTURE.md. */
const homes = [
  '(README|ARCHITECTURE|CONTRIBUTING|SECURITY)[.]md',
  'LICENSE',
  '(package|package-lock|turbo)[.]json',
  'tsconfig([.](base|test|depcruise))?[.]json',
  '(vitest[.]config[.]ts|eslint[.]config[.]js|[.]dependency-cruiser[.]cjs)',
  '[.](editorconfig|gitattributes|gitignore|npmrc|prettierignore|prettierrc[.]json)',
  '[.]ci/run',
  `[.]changeset/(config[.]json|README[.]md|${word}[.]md)`,
  `scripts/${word}[.]mjs`,
  `docs/(adr|guide|wire|bugs)/${word}[.](md|svg|png)`,
  `packages/(${packages})/(package[.]json|tsconfig[.]json|README[.]md|CHANGELOG[.]md|LICENSE)`,
  `packages/(${packages})/src/(${word}/)*${word}([.]fuzz)?([.]test)?[.]ts`,
  'packages/cli/bin/te[.]js',
  'test/package[.]json',
  `test/(compliance|simulation|tidy|e2e|support)/(${word}/)*${word}([.]test)?[.]ts`,
  `test/e2e/programs/${word}[.]mjs`,
  `test/vectors/${word}([.]test)?[.]ts`,
  `test/vectors/(${word}/)*([\\w.-]+[.](json|bin|hex|md))`,
  `benchmarks/(package|tsconfig)[.]json`,
  `benchmarks/README[.]md`,
  `benchmarks/src/(${word}/)*${word}[.]ts`,
].map((home) => new RegExp(`^${home}$`));

interface ListedFile {
  readonly file: string;
  readonly projectName: string;
}

describe('homes', () => {
  const files = repositoryFiles();

  it('every file is where files of its kind are, in kebab-case', () => {
    expect(files.length).toBeGreaterThan(50);
    expect(files.filter((file) => !homes.some((home) => home.test(file)))).toEqual([]);
  });

  it('every test file runs, in exactly one project', async () => {
    const { stdout, stderr } = await runTool('vitest/vitest.mjs', [
      'list',
      '--filesOnly',
      '--json',
    ]);
    expect(stdout, stderr).toMatch(/^\s*\[/);
    const listed = (JSON.parse(stdout) as ListedFile[]).map(({ file }) =>
      relative(root, file).split(sep).join('/'),
    );
    expect(listed.sort()).toEqual(files.filter((file) => file.endsWith('.test.ts')));
  });

  it('every script of scripts/ is run by package.json or imported by another script', () => {
    const scripts = files.filter((file) => file.startsWith('scripts/'));
    const users = ['package.json', ...scripts].map((file) => ({ file, content: readText(file) }));
    const unused = scripts.filter((script) => {
      const name = script.slice('scripts/'.length);
      return !users.some(
        ({ file, content }) =>
          file !== script &&
          [`node ${script}`, `from './${name}'`, `'${script}'`].some((use) =>
            content.includes(use),
          ),
      );
    });
    expect(scripts.length).toBeGreaterThan(0);
    expect(unused).toEqual([]);
  });
});
