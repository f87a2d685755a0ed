import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const source = (path: string) => fileURLToPath(new URL(`packages/${path}`, import.meta.url));

// Unit suites run on sources, so they need no build; e2e suites run what was built, through the
// real `exports`, because that is what users install. tsconfig.depcruise.json has the same map.
const alias = [
  { find: /^@transfer-engine\/(core|metadata)\/(.+)$/, replacement: source('$1/src/$2/index.ts') },
  { find: /^@transfer-engine\/([^/]+)$/, replacement: source('$1/src/index.ts') },
];

export default defineConfig({
  test: {
    projects: [
      {
        resolve: { alias },
        test: {
          name: 'unit',
          include: [
            'packages/*/src/**/*.test.ts',
            'test/{compliance,simulation,vectors,tidy}/**/*.test.ts',
          ],
          testTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
