// Who may import whom. ARCHITECTURE.md has the table in words; docs/adr/0005 says why it is enforced.
//
// test/tidy/imports.test.ts runs these rules on the tree, and on a small tree with one planted
// violation of each, because rules of this kind go blind without anybody noticing.

/** The rooms of packages/core/src, bottom to top, and the rooms that each may import. */
const mayImport = {
  base: [],
  wire: ['base'],
  memory: ['base'],
  topology: ['base'],
  segment: ['base', 'memory', 'topology'],
  // wire: the contract names the type of a handshake, which is a document of the wire.
  transport: ['base', 'wire', 'memory', 'topology', 'segment'],
  transfer: ['base', 'memory', 'topology', 'segment', 'transport'],
  metadata: ['base', 'wire', 'segment'],
  control: ['base', 'wire', 'segment', 'metadata'],
  engine: [
    'base',
    'wire',
    'memory',
    'topology',
    'segment',
    'transport',
    'transfer',
    'metadata',
    'control',
  ],
  compat: ['base', 'engine'],
  // control and engine: simulations run whole engines.
  testing: [
    'base',
    'wire',
    'memory',
    'topology',
    'segment',
    'transport',
    'metadata',
    'control',
    'engine',
  ],
};

const testFile = '[.]test[.]ts$';
const rooms = Object.keys(mayImport);

/** Doors and programs: what package.json leads to. */
const entry = '^packages/[^/]+/src/(index|main|[^/]+/index)[.]ts$';

/** What the outside may import of core; the first one is for users. */
const door = (...names) => `^packages/core/src/(${names.join('|')})/index[.]ts$`;

const roomRules = rooms.map((room) => ({
  name: `core-${room}-imports-only-its-neighbours`,
  comment: `Move the code to a room that may import it, or pass what you need as a value.`,
  severity: 'error',
  from: { path: `^packages/core/src/${room}/`, pathNot: testFile },
  to: {
    path: '^packages/core/src/',
    pathNot: `^packages/core/src/(${[room, ...mayImport[room]].join('|')})/`,
  },
}));

module.exports = {
  forbidden: [
    ...roomRules,
    {
      name: 'core-has-no-other-rooms',
      comment: 'A new room needs a row in the table above, and a reason in docs/adr.',
      severity: 'error',
      from: {},
      to: {
        path: '^packages/core/src/[^/]+/',
        pathNot: `^packages/core/src/(${rooms.join('|')})/`,
      },
    },
    {
      name: 'no-circular',
      comment: 'Move what both need to a third file below them.',
      severity: 'error',
      from: {},
      // Two classes of one room may name each other's types; rooms cannot, by the table.
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'sans-io-rooms-touch-no-io',
      comment: 'Take a port (Clock, Random, ByteStore, Route ...) as an argument instead.',
      severity: 'error',
      from: {
        path: '^packages/(core/src/(base|wire|memory|segment|transport|transfer)|transport-tcp/src/(wire|session))/',
        pathNot: `${testFile}|/memory/file-store[.]ts$`,
      },
      to: { dependencyTypes: ['core'], pathNot: '^(node:)?buffer$' },
    },
    {
      name: 'transports-use-only-the-transport-door',
      comment: 'Import @transfer-engine/core/transport; what is missing there is added there.',
      severity: 'error',
      from: { path: '^packages/transport-[^/]+/src/' },
      to: { path: '^packages/core/src/', pathNot: door('transport', 'wire', 'testing') },
    },
    {
      name: 'stores-use-only-the-metadata-door',
      comment: 'Import @transfer-engine/core/metadata; what is missing there is added there.',
      severity: 'error',
      from: { path: '^packages/metadata/src/' },
      to: { path: '^packages/core/src/', pathNot: door('metadata', 'wire', 'testing') },
    },
    {
      name: 'packages-do-not-know-their-siblings',
      comment: 'Packages know core only; the CLI is where they are put together.',
      severity: 'error',
      from: { path: '^packages/([^/]+)/', pathNot: '^packages/cli/' },
      to: { path: '^packages/([^/]+)/', pathNot: '^packages/($1|core)/' },
    },
    {
      name: 'nobody-imports-tests',
      comment: 'Move what is shared to test/support or to the testing room.',
      severity: 'error',
      from: {},
      to: { path: testFile },
    },
    {
      name: 'products-use-no-test-kit',
      comment: 'Fakes and fixtures are for tests; move what is more than that to another room.',
      severity: 'error',
      from: { path: '^packages/[^/]+/src/', pathNot: [testFile, '/src/testing/'] },
      to: { path: '^packages/[^/]+/src/testing/' },
    },
    {
      name: 'no-dead-files',
      comment: 'No door, program or other file leads here: remove it, or use it.',
      severity: 'error',
      from: { path: entry },
      to: {
        path: '^packages/[^/]+/src/',
        pathNot: [testFile, entry, '^packages/transport-[^/]+/src/testing/'],
        reachable: false,
      },
    },
    {
      name: 'not-to-unresolvable',
      comment: 'Install it, or correct the path.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'packages-declare-what-they-import',
      comment: 'Add it to the dependencies of this package; the root has tools only.',
      severity: 'error',
      from: { path: '^packages/[^/]+/src/', pathNot: testFile },
      to: {
        dependencyTypes: ['npm-no-pkg', 'npm-unknown', 'npm-dev'],
        dependencyTypesNot: ['npm-peer'],
      },
    },
  ],
  options: {
    // Types count: a room that only names a type of another room depends on it all the same.
    tsPreCompilationDeps: true,
    // Resolves our package names to sources. Without it they lead to dist/ after a build, and no
    // rule above, which speak of src/, ever fires.
    tsConfig: { fileName: 'tsconfig.depcruise.json' },
    exclude: { path: '(^|/)(dist|build|coverage|[.]turbo|[.]cache)/' },
    // A package's own package.json counts, not only the root's.
    combinedDependencies: true,
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'default'] },
  },
};
