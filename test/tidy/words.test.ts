import { describe, expect, it } from 'vitest';
import { readText, repositoryFiles } from './repository.ts';

interface Ban {
  readonly what: string;
  readonly pattern: RegExp;
  /** Files that the ban is about; all if absent. */
  readonly files?: RegExp;
}

/** Joined from pieces, so that this file passes its own test. */
const text = (...pieces: string[]) => pieces.join('');
const anyOf = (...names: string[]) => new RegExp(`(?<!\\w)(${names.join('|')})(?!\\w)`, 'i');

const bans: Ban[] = [
  {
    what: 'an absolute path of somebody’s machine',
    pattern: new RegExp(`(?<![\\w.~@-])/(${['wo', 'ro', 'ho'].join('|')})(rk|ot|me/\\w+)/`),
  },
  { what: 'an absolute path of somebody’s Mac', pattern: new RegExp(text('/Us', 'ers/', '\\w+/')) },
  { what: 'a folder outside the repository', pattern: new RegExp(text('[.][.]/', 'sha', 'red/')) },
  {
    what: 'the host name of a package registry',
    pattern: new RegExp(
      [
        text('regis', 'try[.]np', 'mjs'),
        text('np', 'mmirror'),
        text('regis', 'try[.]ya', 'rn'),
      ].join('|'),
    ),
  },
  {
    what: 'a tool that has nothing to do with the product',
    pattern: anyOf(
      text('clau', 'de'),
      text('anth', 'ropic'),
      text('open', 'ai'),
      text('chat', 'gpt'),
      text('copi', 'lot'),
      text('iss', 'ues show'),
      text('co-auth', 'ored-by'),
      text('sub', '-?agents?'),
    ),
  },
  {
    what: 'work that is not done',
    pattern: new RegExp(
      `\\b(${[text('TO', 'DO'), text('FIX', 'ME'), text('XX', 'X')].join('|')})\\b`,
    ),
    files: /[.](ts|js|mjs|cjs|json|md)$/,
  },
  {
    what: 'a test that does not run',
    pattern: new RegExp(`\\b(it|test|describe|suite)[.](${text('on', 'ly|sk', 'ip|to', 'do')})\\b`),
    files: /[.]test[.]ts$/,
  },
];

function findings(ban: Ban, file: string, content: string): string[] {
  if (ban.files !== undefined && !ban.files.test(file)) return [];
  return content
    .split('\n')
    .flatMap((line, index) =>
      ban.pattern.test(line) ? [`${file}:${index + 1}: ${line.trim().slice(0, 120)}`] : [],
    );
}

describe('words', () => {
  const files = repositoryFiles();
  const contents = files.map((file) => readText(file));

  it.each(bans)('no file has $what', (ban) => {
    const found = files.flatMap((file, index) => findings(ban, file, contents[index] ?? ''));
    expect(found).toEqual([]);
  });

  it('sees what it looks for', () => {
    const samples = [
      text('see /wo', 'rk/main/x'),
      text('/Us', 'ers/ann/x'),
      text("'../", "shared/x'"),
      text('https://regis', 'try.np', 'mjs.org/x'),
      text('asked Clau', 'de'),
      text('// TO', 'DO: x'),
      text('it.sk', 'ip(1)'),
    ];
    bans.forEach((ban, index) =>
      expect(findings(ban, 'planted.test.ts', samples[index] ?? '')).toHaveLength(1),
    );
    expect(samples).toHaveLength(bans.length);
  });
});
