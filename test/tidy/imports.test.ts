import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { root, runTool, workspaces } from './repository.ts';

interface Violation {
  readonly from: string;
  readonly to: string;
  readonly rule: { readonly name: string };
}
interface Report {
  readonly modules: readonly { readonly source: string }[];
  readonly summary: { readonly violations: readonly Violation[] };
}

async function cruise(cwd: string, folders: readonly string[]): Promise<Report> {
  const { stdout, stderr } = await runTool(
    'dependency-cruiser/bin/dependency-cruise.mjs',
    ['--config', '.dependency-cruiser.cjs', '--output-type', 'json', ...folders],
    { cwd },
  );
  expect(stdout, stderr).toMatch(/^\{/);
  return JSON.parse(stdout) as Report;
}

describe('the import table', () => {
  it('holds in the repository', async () => {
    const { modules, summary } = await cruise(root, ['packages', 'test', 'benchmarks']);
    expect(modules.length).toBeGreaterThan(50);
    expect(
      summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} -> ${to}`),
    ).toEqual([]);
  });
});

/** A file of the planted tree, and the rule that has to report it; undefined for none. */
interface Plant {
  readonly file: string;
  readonly content: string;
  readonly rule?: string;
}

const core = 'packages/core/src';
const tcp = 'packages/transport-tcp/src';

/** Innocent files. Doors lead to all of them, so that nothing in the tree is dead by accident. */
const innocent: Plant[] = [
  { file: `${core}/base/word.ts`, content: 'export const word = 1;' },
  { file: `${core}/memory/store.ts`, content: "export { word as store } from '../base/word.ts';" },
  { file: `${core}/memory/file-store.ts`, content: "import 'node:fs'; export const file = 1;" },
  { file: `${core}/wire/index.ts`, content: "export { word as frame } from '../base/word.ts';" },
  { file: `${core}/metadata/index.ts`, content: "export { frame } from '../wire/index.ts';" },
  { file: `${core}/transport/index.ts`, content: "export { store } from '../memory/store.ts';" },
  { file: `${core}/testing/index.ts`, content: "export { store } from '../transport/index.ts';" },
  { file: `${core}/control/server.ts`, content: "import 'node:net'; export const server = 1;" },
  {
    file: `${core}/engine/engine.ts`,
    content:
      "import '../control/server.ts'; import '../memory/file-store.ts'; import './child.ts'; export const e = 1;",
  },
  {
    file: `${core}/engine/parent.ts`,
    content: "import type { Child } from './child.ts'; export class Parent { child?: Child }",
  },
  {
    file: `${core}/engine/child.ts`,
    content: "import { Parent } from './parent.ts'; export class Child { parent = new Parent(); }",
  },
  { file: `${core}/index.ts`, content: "export { e } from './engine/engine.ts';" },
  {
    file: `${tcp}/index.ts`,
    content: "import 'node:net'; export { store } from '@transfer-engine/core/transport';",
  },
  {
    file: 'packages/metadata/src/index.ts',
    content: "export { frame } from '@transfer-engine/core/metadata';",
  },
  {
    file: 'packages/metadata/src/http/index.ts',
    content: "export { frame } from '@transfer-engine/core/wire';",
  },
  {
    file: 'packages/cli/src/main.ts',
    content:
      "import '@transfer-engine/core'; import '@transfer-engine/transport-tcp'; import '@transfer-engine/metadata/http';",
  },
  { file: `${tcp}/testing/pair.ts`, content: "import '@transfer-engine/core/testing';" },
  { file: `${tcp}/tcp.test.ts`, content: "import './testing/pair.ts';" },
  {
    file: 'test/e2e/first.test.ts',
    content: "import '@transfer-engine/core'; import '@transfer-engine/transport-tcp';",
  },
];

const wrong = (file: string, content: string, rule: string): Plant => ({ file, content, rule });

/** One violation of every rule; of the rules about doors also in the ways in which they went blind. */
const planted: Plant[] = [
  wrong(
    `${core}/base/up.ts`,
    "import '../wire/index.ts';",
    'core-base-imports-only-its-neighbours',
  ),
  wrong(
    `${core}/wire/side.ts`,
    "import type { Store } from '../memory/store.ts'; export type S = Store;",
    'core-wire-imports-only-its-neighbours',
  ),
  wrong(
    `${core}/memory/up.ts`,
    "import '../wire/index.ts';",
    'core-memory-imports-only-its-neighbours',
  ),
  wrong(
    `${core}/topology/up.ts`,
    "import '../memory/store.ts';",
    'core-topology-imports-only-its-neighbours',
  ),
  wrong(
    `${core}/segment/up.ts`,
    "import '../wire/index.ts';",
    'core-segment-imports-only-its-neighbours',
  ),
  wrong(
    `${core}/transport/up.ts`,
    "import '../metadata/index.ts';",
    'core-transport-imports-only-its-neighbours',
  ),
  wrong(
    `${core}/transfer/up.ts`,
    "import '../wire/index.ts';",
    'core-transfer-imports-only-its-neighbours',
  ),
  wrong(
    `${core}/metadata/up.ts`,
    "import '../memory/store.ts';",
    'core-metadata-imports-only-its-neighbours',
  ),
  wrong(
    `${core}/control/up.ts`,
    "import '../memory/store.ts';",
    'core-control-imports-only-its-neighbours',
  ),
  wrong(
    `${core}/engine/up.ts`,
    "import '../testing/index.ts';",
    'core-engine-imports-only-its-neighbours',
  ),
  wrong(
    `${core}/compat/up.ts`,
    "import '../memory/store.ts';",
    'core-compat-imports-only-its-neighbours',
  ),
  wrong(
    `${core}/testing/up.ts`,
    "import '../compat/up.ts';",
    'core-testing-imports-only-its-neighbours',
  ),
  wrong(`${core}/engine/extra.ts`, "import '../attic/box.ts';", 'core-has-no-other-rooms'),
  wrong(`${core}/engine/a.ts`, "import './b.ts';", 'no-circular'),
  wrong(`${core}/transfer/io.ts`, "import 'node:timers';", 'sans-io-rooms-touch-no-io'),
  wrong(
    `${tcp}/session/io.ts`,
    "import { connect } from 'net'; connect(1);",
    'sans-io-rooms-touch-no-io',
  ),
  wrong(
    `${tcp}/main-door.ts`,
    "import '@transfer-engine/core';",
    'transports-use-only-the-transport-door',
  ),
  wrong(
    `${tcp}/back-door.ts`,
    "import '../../core/src/memory/store.ts';",
    'transports-use-only-the-transport-door',
  ),
  wrong(
    'packages/metadata/src/http/wrong-door.ts',
    "import '@transfer-engine/core/transport';",
    'stores-use-only-the-metadata-door',
  ),
  wrong(
    `${tcp}/sibling.ts`,
    "import '@transfer-engine/metadata/http';",
    'packages-do-not-know-their-siblings',
  ),
  wrong(`${core}/engine/uses-test.ts`, "import './engine.test.ts';", 'nobody-imports-tests'),
  wrong(`${tcp}/fake.ts`, "import '@transfer-engine/core/testing';", 'products-use-no-test-kit'),
  wrong(`${core}/engine/dead.ts`, 'export const dead = 1;', 'no-dead-files'),
  wrong(`${core}/engine/typo.ts`, "import './nowhere.ts';", 'not-to-unresolvable'),
  wrong(`${core}/engine/tool.ts`, "import 'only-a-tool';", 'packages-declare-what-they-import'),
];

/** What planted files lead to. */
const props: Plant[] = [
  { file: `${core}/attic/box.ts`, content: 'export const box = 1;' },
  { file: `${core}/engine/b.ts`, content: "import './a.ts';" },
  { file: `${core}/engine/engine.test.ts`, content: 'export const t = 1;' },
  { file: 'node_modules/only-a-tool/index.js', content: 'export const tool = 1;' },
  {
    file: 'node_modules/only-a-tool/package.json',
    content: '{"name":"only-a-tool","type":"module","exports":"./index.js"}',
  },
];

describe('the rules see', () => {
  const tree = mkdtempSync(join(tmpdir(), 'transfer-engine-planted-'));
  let violations: readonly Violation[] = [];

  const write = (file: string, content: string) => {
    mkdirSync(dirname(join(tree, file)), { recursive: true });
    writeFileSync(join(tree, file), content);
  };

  beforeAll(async () => {
    for (const file of [
      '.dependency-cruiser.cjs',
      'tsconfig.depcruise.json',
      'tsconfig.base.json',
    ]) {
      cpSync(join(root, file), join(tree, file));
    }
    write('package.json', '{"type":"module","devDependencies":{"only-a-tool":"1"}}');
    // The tree looks as after a build: links in node_modules, exports that lead to dist/.
    for (const { folder, manifest } of workspaces()) {
      write(`${folder}/package.json`, JSON.stringify(manifest));
      for (const target of Object.values(manifest.exports ?? {})) {
        if (typeof target === 'object') write(join(folder, target['default'] ?? ''), 'export {};');
      }
      const link = join(tree, 'node_modules', manifest.name);
      mkdirSync(dirname(link), { recursive: true });
      symlinkSync(join(tree, folder), link);
    }
    for (const { file, content } of [...innocent, ...planted, ...props]) write(file, content);
    // Everything planted is alive, except for what is planted as dead.
    const alive = planted.filter(({ rule }) => rule !== 'no-dead-files');
    write(
      'packages/cli/src/index.ts',
      alive.map(({ file }) => `import '../../../${file}';`).join('\n'),
    );
    violations = (await cruise(tree, ['packages', 'test'])).summary.violations;
  });

  afterAll(() => rmSync(tree, { recursive: true, force: true }));

  it.each(planted)('$rule in $file', ({ file, rule }) => {
    const reported = violations.filter(
      (violation) => violation.from === file || violation.to === file,
    );
    expect(reported.map((violation) => violation.rule.name)).toContain(rule);
  });

  it('nothing in innocent files', () => {
    const files = new Set(innocent.map(({ file }) => file));
    expect(violations.filter(({ from }) => files.has(from))).toEqual([]);
  });

  it('every rule has a planted violation', () => {
    const config = createRequire(import.meta.url)(join(root, '.dependency-cruiser.cjs')) as {
      forbidden: { name: string }[];
    };
    expect([...new Set(planted.map(({ rule }) => rule))].sort()).toEqual(
      config.forbidden.map(({ name }) => name).sort(),
    );
  });
});
