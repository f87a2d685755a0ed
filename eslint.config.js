import js from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import globals from 'globals';
import tseslint from 'typescript-eslint';

const tests = ['**/*.test.ts', 'test/**/*.ts'];

export default defineConfig(
  globalIgnores([
    '**/dist/',
    '**/build/',
    'coverage/',
    '**/.turbo/',
    '.cache/',
    'docs/api/',
    'test/vectors/',
  ]),
  // A rule that is wrong is changed here, for everybody, and not switched off in a comment.
  { linterOptions: { noInlineConfig: true } },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        // A default branch answers what comes from outside, where the type is only a hope.
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/consistent-type-imports': [
        'error',
        // What is loaded lazily (optional peers) has its type from `typeof import('x')`.
        { disallowTypeAnnotations: false },
      ],
      // Interfaces ask for promises, and `async` turns every throw into a rejection.
      '@typescript-eslint/require-await': 'off',
      // It takes "a promise or nothing", which optional methods return, for "no promise".
      '@typescript-eslint/await-thenable': 'off',
      '@typescript-eslint/no-unused-vars': [
        'error',
        { ignoreRestSiblings: true, argsIgnorePattern: '^_' },
      ],
      // An abort rejects with the signal's reason, whatever that is.
      '@typescript-eslint/only-throw-error': [
        'error',
        { allowThrowingAny: true, allowThrowingUnknown: true },
      ],
      '@typescript-eslint/prefer-promise-reject-errors': [
        'error',
        { allowThrowingAny: true, allowThrowingUnknown: true },
      ],
    },
  },
  {
    files: ['packages/*/src/**/*.ts', 'benchmarks/**/*.ts', 'scripts/**/*.mjs'],
    ignores: tests,
    rules: {
      'max-lines': ['error', { max: 500, skipBlankLines: true, skipComments: true }],
      'max-lines-per-function': ['error', { max: 80, skipBlankLines: true, skipComments: true }],
    },
  },
  {
    files: ['packages/*/src/**/*.ts'],
    ignores: ['packages/cli/**'],
    rules: { 'no-console': 'error' },
  },
  {
    files: [...tests, 'packages/core/src/testing/**/*.ts'],
    rules: {
      // Fixtures are taken apart; a method that needed its object would fail the test.
      '@typescript-eslint/unbound-method': 'off',
    },
  },
  { files: ['**/*.{js,mjs,cjs}'], languageOptions: { globals: globals.node } },
);
