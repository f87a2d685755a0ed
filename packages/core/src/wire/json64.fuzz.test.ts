import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EngineError } from '../base/errors.ts';
import { parseJson64, stringifyJson64, type Json64 } from './json64.ts';

const RUNS = 10_000;

const integer = fc.oneof(
  fc.maxSafeInteger(),
  fc.bigInt({ min: BigInt(Number.MAX_SAFE_INTEGER) + 1n, max: 2n ** 64n - 1n }),
  fc.bigInt({ min: -(2n ** 63n), max: BigInt(Number.MIN_SAFE_INTEGER) - 1n }),
);
const text = fc.string({ unit: 'grapheme', maxLength: 12 });
const key = fc.oneof(text, fc.constantFrom('__proto__', 'constructor', 'addr', '\ue000', '😀'));

const { value: json } = fc.letrec<{ value: Json64 }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constantFrom<Json64[]>(null, true, false),
    integer,
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    text,
    fc.array(tie('value'), { maxLength: 5 }),
    fc.dictionary(key, tie('value'), { maxKeys: 5 }),
  ),
}));

/** Parses, and accepts no other failure than the typed one. */
function parseOrUndefined(input: string): Json64 | undefined {
  try {
    return parseJson64(input);
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(EngineError);
    expect((thrown as EngineError).code).toBe('ERR_TE_MALFORMED_JSON');
    return undefined;
  }
}

test('what was written is read back', () => {
  fc.assert(
    fc.property(json, (value) => {
      const written = stringifyJson64(value);
      expect(written).toMatch(/^[\x20-\x7f]*$/);
      expect(stringifyJson64(parseJson64(written))).toBe(written);
      expect(parseJson64(written)).toEqual(value);
    }),
    { numRuns: RUNS },
  );
});

test('agrees with JSON.parse, up to what a double cannot hold', () => {
  fc.assert(
    fc.property(fc.json(), (input) => {
      const near = (_key: string, value: unknown): unknown =>
        typeof value === 'bigint' ? Number(value) : value;
      expect(JSON.stringify(parseJson64(input), near)).toBe(JSON.stringify(JSON.parse(input)));
    }),
    { numRuns: RUNS },
  );
});

/** Writes a value with something meaningless wherever there may be something. */
function writeLoosely(value: Json64, blank: () => string): string {
  const list = (open: string, items: string[], close: string): string => {
    const comma = items.length > 0 && blank() === '' ? ',' : '';
    return `${open}${blank()}${items.join(`${blank()},${blank()}`)}${comma}${blank()}${close}`;
  };
  if (Array.isArray(value)) {
    return list(
      '[',
      value.map((item) => writeLoosely(item, blank)),
      ']',
    );
  }
  if (typeof value !== 'object' || value === null) return stringifyJson64(value);
  const members = Object.entries(value).map(
    ([name, member]) =>
      `${stringifyJson64(name)}${blank()}:${blank()}${writeLoosely(member, blank)}`,
  );
  return list('{', members, '}');
}

test('white space, comments and trailing commas change nothing', () => {
  const blank = fc.constantFrom('', '', ' ', '\n\t', '/* , ] */', '// "\n', '\r\n  /**/ ');
  fc.assert(
    fc.property(json, fc.array(blank, { minLength: 1, maxLength: 8 }), (value, blanks) => {
      let turn = 0;
      const loose = writeLoosely(value, () => blanks[turn++ % blanks.length] as string);
      expect(stringifyJson64(parseJson64(`${loose} behind`))).toBe(stringifyJson64(value));
    }),
    { numRuns: RUNS },
  );
});

test('any text ends in a value or in a typed error', () => {
  const token = fc.constantFrom(
    ...'{}[]:,"\\/*-+.eEu0123 \n',
    'null',
    'tru',
    '\\u',
    '\\ud800',
    '😀',
  );
  const soup = fc.array(token, { maxLength: 40 }).map((tokens) => tokens.join(''));
  fc.assert(
    fc.property(fc.oneof(soup, fc.string({ unit: 'binary' })), (input) => {
      parseOrUndefined(input);
    }),
    { numRuns: RUNS },
  );
});

test('an edited document ends in a value or in a typed error that points into it', () => {
  fc.assert(
    fc.property(json, fc.nat(), fc.nat(3), fc.string({ maxLength: 2 }), (value, at, cut, added) => {
      const written = stringifyJson64(value);
      const from = at % (written.length + 1);
      const edited = written.slice(0, from) + added + written.slice(from + cut);
      try {
        parseJson64(edited);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(EngineError);
        const { position } = (thrown as EngineError).details;
        expect(position).toBeGreaterThanOrEqual(0);
        expect(position).toBeLessThanOrEqual(edited.length);
      }
    }),
    { numRuns: RUNS },
  );
});
