import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readManifest, readText, repositoryFiles, root } from './repository.ts';

const documents = repositoryFiles().filter((file) => file.endsWith('.md'));
const prose = documents.map((file) => ({ file, content: readText(file) }));

/** Headings as GitHub makes anchors of them. */
function anchors(content: string): Set<string> {
  const headings = content.match(/^#+ .*$/gm) ?? [];
  return new Set(
    headings.map((heading) =>
      heading
        .replace(/^#+ /, '')
        .toLowerCase()
        .replace(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    ),
  );
}

describe.each(prose)('$file', ({ file, content }) => {
  const withoutCode = content.replace(/^```[\s\S]*?^```/gm, '');

  it('links to files and headings that exist', () => {
    const broken = [...withoutCode.matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, target]) => target ?? '')
      .filter((target) => !/^[a-z]+:/.test(target))
      .filter((target) => {
        const [path = '', anchor] = target.split('#');
        const linked = path === '' ? file : join(dirname(file), path);
        if (!existsSync(join(root, linked))) return true;
        return anchor !== undefined && !anchors(readText(linked)).has(anchor);
      });
    expect(broken).toEqual([]);
  });

  it('names npm scripts, files and folders that exist', () => {
    const { scripts = {} } = readManifest('package.json');
    const commands = [...content.matchAll(/npm run (?:-s |--silent )?([\w:-]+)/g)];
    const unknown = commands.map(([, name]) => name ?? '').filter((name) => !(name in scripts));
    expect(unknown).toEqual([]);

    const paths = [
      ...withoutCode.matchAll(/`((?:packages|test|docs|scripts|benchmarks)\/[\w./-]+)`/g),
    ]
      .map(([, path]) => path ?? '')
      .filter((path) => !existsSync(join(root, path)));
    expect(paths).toEqual([]);
  });
});

describe('docs/adr', () => {
  const records = documents.filter((file) => file.startsWith('docs/adr/'));

  it('is numbered without gaps and without doubles', () => {
    const numbers = records.map((file) => Number(/^docs\/adr\/(\d{4})-/.exec(file)?.[1]));
    expect(numbers).toEqual(numbers.map((_, index) => index + 1));
    expect(numbers.length).toBeGreaterThan(0);
  });

  it.each(records)('%s has context, decision, price and when to revisit', (file) => {
    const headings = readText(file).match(/^## .*$/gm) ?? [];
    expect(headings).toEqual(['## Context', '## Decision', '## Price', '## When to revisit']);
    expect(readText(file).split('\n').length).toBeLessThan(70);
  });
});

describe('README.md', () => {
  it('has the place for measured figures, and the commands that everything starts with', () => {
    const readme = readText('README.md');
    expect(readme).toMatch(/<!-- bench:begin -->[\s\S]*<!-- bench:end -->/);
    expect(readme).toContain('npm run demo');
    expect(readme).toContain('npm test');
  });
});
