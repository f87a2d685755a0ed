import { describe, expect, test } from 'vitest';
import { EngineError } from '../base/errors.ts';
import { JSON_DEPTH_MAX, parseJson64, stringifyJson64, withNewline } from './json64.ts';

/** Runs what must fail, and returns the error. */
function errorOf(action: () => unknown): EngineError {
  try {
    action();
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(EngineError);
    return thrown as EngineError;
  }
  throw new Error('nothing was thrown');
}

const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);

describe('parseJson64', () => {
  // Left: text. Right: what jsoncpp 1.9.5 with its default settings writes after reading it.
  test.each([
    ['{}', '{}'],
    ['\ufeff{"a":1}', '{"a":1}'],
    ['// head\n{/*x*/"a"/*y*/:/*z*/1/**/}', '{"a":1}'],
    ['{"a":1,}', '{"a":1}'],
    ['[1,2,]', '[1,2]'],
    ['[ ]', '[]'],
    ['{"a":1} trailing }{', '{"a":1}'],
    ['nullx', 'null'],
    ['{"a":1,"b":2,"a":3}', '{"a":3,"b":2}'],
    ['{"a":{"x":1},"a":{"y":2}}', '{"a":{"y":2}}'],
    ['"text"', '"text"'],
    ['true', 'true'],
    ['007', '7'],
    ['-0', '0'],
    ['"raw\ttab\nline"', '"raw\\ttab\\nline"'],
    ['"\\u00e9\\/\\u007f\\u0001\\b\\f"', '"\\u00e9/\x7f\\u0001\\b\\f"'],
    ['"😀é"', '"\\ud83d\\ude00\\u00e9"'],
    ['"\\ud83d\\ude00"', '"\\ud83d\\ude00"'],
    ['"a\\udc00b"', '"a\\ufffdb"'],
    ['{"😀":1,"\ue000":2,"é":3,"z":4}', '{"z":4,"\\u00e9":3,"\\ue000":2,"\\ud83d\\ude00":1}'],
    ['{"10":1,"9":2,"":3}', '{"":3,"10":1,"9":2}'],
  ])('reads %j', (text, written) => {
    expect(stringifyJson64(parseJson64(text))).toBe(written);
  });

  test.each([
    ['', 0],
    [' \n', 2],
    ["{'a':1}", 1],
    ["['a']", 1],
    ['NaN', 0],
    ['Infinity', 0],
    ['-', 1],
    ['-x', 1],
    ['+1', 0],
    ['.5', 0],
    ['1e', 2],
    ['1e999', 0],
    ['[1 2]', 3],
    ['[,]', 1],
    ['[1,,2]', 3],
    ['{,}', 1],
    ['{"a"}', 4],
    ['{"a" 1}', 5],
    ['{"a":}', 5],
    ['{a:1}', 1],
    ['{1:1}', 1],
    ['{"a":1', 6],
    ['[1', 2],
    ['[1}', 2],
    ['"open', 0],
    ['"\\x"', 1],
    ['"\\u12g4"', 1],
    ['"\\u12', 1],
    ['"\\', 1],
    ['/', 0],
    ['/* open', 0],
    ['// only a comment', 17],
    ['tru', 0],
    ['\u00a01', 0],
  ])('refuses %j at %i', (text, position) => {
    const error = errorOf(() => parseJson64(text));
    expect(error.code).toBe('ERR_TE_MALFORMED_JSON');
    expect(error.details.position).toBe(position);
    expect(error.message).toContain(`position ${position}`);
  });

  test.each<[string, unknown]>([
    ['0', 0],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
    ['-9007199254740991', Number.MIN_SAFE_INTEGER],
    ['9007199254740992', 9007199254740992n],
    ['9007199254740993', 9007199254740993n],
    ['18446744073709551615', 18446744073709551615n],
    ['-9223372036854775808', -9223372036854775808n],
    ['000000000000000000000000000018446744073709551615', 18446744073709551615n],
    ['18446744073709551616', 2 ** 64],
    ['-9223372036854775809', -(2 ** 63)],
    ['99999999999999999999999', 1e23],
    ['15001.0', 15001],
    ['1.', 1],
    ['2.5e3', 2500],
    ['1E-2', 0.01],
    ['-0.0', -0],
  ])('reads the number %s', (text, value) => {
    expect(parseJson64(text)).toBe(value);
  });

  test('refuses a number that even a double cannot hold', () => {
    const error = errorOf(() => parseJson64(`[${'9'.repeat(400)}]`));
    expect(error.code).toBe('ERR_TE_MALFORMED_JSON');
    expect(error.details.position).toBe(1);
  });

  test('bounds nesting, not length', () => {
    expect(stringifyJson64(parseJson64(nested(JSON_DEPTH_MAX)))).toBe(nested(JSON_DEPTH_MAX));
    expect(errorOf(() => parseJson64(nested(JSON_DEPTH_MAX + 1))).message).toContain('nesting');
    expect(errorOf(() => parseJson64('{"a":'.repeat(1_000_000))).message).toContain('nesting');
    expect(parseJson64(`[${'[],'.repeat(100_000)}]`)).toHaveLength(100_000);
  });

  test('treats every key as an ordinary member', () => {
    const value = parseJson64('{"__proto__":{"polluted":1},"constructor":2,"toString":3}');
    expect(Object.keys(value as object).sort()).toEqual(['__proto__', 'constructor', 'toString']);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    const empty = parseJson64('{}') as Record<string, unknown>;
    expect([empty.toString, empty.constructor, empty.__proto__]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });
});

describe('stringifyJson64', () => {
  test('writes integers as digits, whatever their type', () => {
    const value = { a: 2 ** 53 - 1, b: 2n ** 64n - 1n, c: -(2n ** 63n), d: 0n, e: -1 };
    expect(stringifyJson64(value)).toBe(
      '{"a":9007199254740991,"b":18446744073709551615,"c":-9223372036854775808,"d":0,"e":-1}',
    );
  });

  test('writes doubles so that they are read back as they are', () => {
    for (const value of [0.1, -0, 1e300, 5e-324, 2 ** 60, -(2 ** 70), 123456.75]) {
      expect(parseJson64(stringifyJson64(value))).toBe(value);
    }
  });

  test('sorts the keys of each object by their bytes', () => {
    const first = { b: 1, a: { d: 1, c: 2 } };
    const others = [{ b: 1, a: 2 }, { a: 1, b: 2 }, { b: 1 }];
    expect(stringifyJson64([first, ...others])).toBe(
      '[{"a":{"c":2,"d":1},"b":1},{"a":2,"b":1},{"a":1,"b":2},{"b":1}]',
    );
  });

  test.each<[string, unknown, string]>([
    ['undefined', { a: [1, undefined] }, 'value["a"][1]'],
    ['a function', [() => 1], 'value[0]'],
    ['a symbol', Symbol('s'), 'value'],
    ['NaN', { x: Number.NaN }, 'value["x"]'],
    ['Infinity', Number.POSITIVE_INFINITY, 'value'],
    ['more than 64 bits', [2n ** 64n], 'value[0]'],
    ['less than 64 bits', [-(2n ** 63n) - 1n], 'value[0]'],
    ['a Date', { at: new Date(0) }, 'value["at"]'],
    ['a Map', new Map(), 'value'],
    ['a Buffer', Buffer.alloc(1), 'value'],
    ['half a pair', 'a\ud800', 'value'],
    ['half a pair in a key', { '\udc00': 1 }, 'value["\\udc00"]'],
  ])('refuses %s and names the place', (_name, value, place) => {
    const error = errorOf(() => stringifyJson64(value));
    expect(error.code).toBe('ERR_TE_INVALID_ARGUMENT');
    expect(error.details.argument).toBe(place);
  });

  test('refuses a cycle instead of running out of stack', () => {
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;
    expect(errorOf(() => stringifyJson64(cycle)).message).toContain('nesting');
  });

  test('leaves the newline to those who need it', () => {
    expect(withNewline(stringifyJson64({}))).toBe('{}\n');
  });
});
