import { EngineError } from '../base/errors.ts';
import {
  JSON_DEPTH_MAX,
  JSON_INTEGER_MAX,
  JSON_INTEGER_MIN,
  newJsonObject,
  type Json64,
  type JsonObject,
} from './json-value.ts';

/** Every integer with at most this many digits is a safe integer. */
const SAFE_DIGITS = 15;
/** 2^64 - 1 has this many digits. */
const U64_DIGITS = 20;

/**
 * Parses JSON as tolerantly as the C++ engines do, without losing a bit of 64-bit integers.
 *
 * Accepted beyond the standard: a byte order mark, comments, trailing commas, any root value, text
 * after the root value, control characters inside strings, surrogates alone (as
 * U+FFFD), leading zeros, duplicate keys (the last
 * one wins). Integers that need more than 64 bits become the nearest double. Time is linear in the
 * length of the text, and nesting is bounded by {@link JSON_DEPTH_MAX}.
 *
 * @throws EngineError `ERR_TE_MALFORMED_JSON`; `details.position` counts UTF-16 units from 0.
 * @remarks Source: Mooncake 3b5a594 reads with jsoncpp's CharReaderBuilder and its defaults.
 */
export function parseJson64(text: string): Json64 {
  return new Parser(text).parse();
}

const TAB = 0x09;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const SPACE = 0x20;
const QUOTE = 0x22;
const STAR = 0x2a;
const PLUS = 0x2b;
const COMMA = 0x2c;
const MINUS = 0x2d;
const DOT = 0x2e;
const SLASH = 0x2f;
const ZERO = 0x30;
const NINE = 0x39;
const COLON = 0x3a;
const UPPER_E = 0x45;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const LOWER_E = 0x65;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const BYTE_ORDER_MARK = 0xfeff;

const REPLACEMENT = '\ufffd';

const ESCAPED: ReadonlyMap<string, string> = new Map([
  ['"', '"'],
  ['\\', '\\'],
  ['/', '/'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
]);

const isDigit = (code: number): boolean => code >= ZERO && code <= NINE;
const isHighSurrogate = (unit: number): boolean => (unit & 0xfc00) === 0xd800;
const isLowSurrogate = (unit: number): boolean => (unit & 0xfc00) === 0xdc00;

type Container = Json64[] | JsonObject;

/** One pass over the text, with a stack of its own instead of recursion. */
class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Json64 {
    if (this.#code() === BYTE_ORDER_MARK) this.#at += 1;
    const containers: Container[] = [];
    const keys: string[] = [];
    for (;;) {
      this.#skipBlank();
      const opened = this.#takeStart();
      let value: Json64;
      if (opened === undefined) {
        value = this.#scalar();
      } else {
        if (containers.length >= JSON_DEPTH_MAX) throw this.#error('nesting is too deep');
        this.#skipBlank();
        if (!this.#takeEnd(opened)) {
          containers.push(opened);
          keys.push(Array.isArray(opened) ? '' : this.#key());
          continue;
        }
        value = opened;
      }
      // The value is whole. Store it, and go on with every container that ends with it.
      for (;;) {
        const container = containers.at(-1);
        if (container === undefined) return value;
        if (Array.isArray(container)) container.push(value);
        else container[keys.at(-1) as string] = value;
        if (this.#hasNext(container)) {
          if (!Array.isArray(container)) keys[keys.length - 1] = this.#key();
          break;
        }
        containers.pop();
        keys.pop();
        value = container;
      }
    }
  }

  /** The unit at the position; NaN, which equals nothing, at the end. */
  #code(): number {
    return this.#text.charCodeAt(this.#at);
  }

  #takeStart(): Container | undefined {
    const code = this.#code();
    if (code !== OPEN_BRACE && code !== OPEN_BRACKET) return undefined;
    this.#at += 1;
    return code === OPEN_BRACKET ? [] : newJsonObject();
  }

  #takeEnd(container: Container): boolean {
    if (this.#code() !== (Array.isArray(container) ? CLOSE_BRACKET : CLOSE_BRACE)) return false;
    this.#at += 1;
    return true;
  }

  /** Reads what stands behind a value: true when the container has one more. */
  #hasNext(container: Container): boolean {
    this.#skipBlank();
    if (this.#code() === COMMA) {
      this.#at += 1;
      this.#skipBlank();
      return !this.#takeEnd(container);
    }
    if (this.#takeEnd(container)) return false;
    throw this.#error(Array.isArray(container) ? 'expected "," or "]"' : 'expected "," or "}"');
  }

  /** Reads `"key" :`. */
  #key(): string {
    if (this.#code() !== QUOTE) throw this.#error('expected a key in double quotes');
    const key = this.#string();
    this.#skipBlank();
    if (this.#code() !== COLON) throw this.#error('expected ":"');
    this.#at += 1;
    return key;
  }

  #scalar(): Json64 {
    const code = this.#code();
    if (code === QUOTE) return this.#string();
    if (code === MINUS || isDigit(code)) return this.#number();
    if (this.#takeWord('true')) return true;
    if (this.#takeWord('false')) return false;
    if (this.#takeWord('null')) return null;
    throw this.#error('expected a value');
  }

  #takeWord(word: string): boolean {
    if (!this.#text.startsWith(word, this.#at)) return false;
    this.#at += word.length;
    return true;
  }

  #number(): number | bigint {
    const start = this.#at;
    const negative = this.#code() === MINUS;
    if (negative) this.#at += 1;
    const digitsFrom = this.#at;
    let small = 0;
    let code = this.#code();
    while (isDigit(code)) {
      if (this.#at - digitsFrom < SAFE_DIGITS) small = small * 10 + (code - ZERO);
      this.#at += 1;
      code = this.#code();
    }
    const digits = this.#at - digitsFrom;
    if (digits === 0) throw this.#error('expected a digit');
    if (code === DOT || code === LOWER_E || code === UPPER_E) return this.#real(start);
    if (digits <= SAFE_DIGITS) return negative && small !== 0 ? -small : small;
    return this.#finite(integerOf(this.#text.slice(start, this.#at)), start);
  }

  /** Goes on behind the integral part of a number that started at `start`. */
  #real(start: number): number {
    if (this.#code() === DOT) {
      this.#at += 1;
      this.#skipDigits();
    }
    const code = this.#code();
    if (code === LOWER_E || code === UPPER_E) {
      this.#at += 1;
      const sign = this.#code();
      if (sign === PLUS || sign === MINUS) this.#at += 1;
      if (this.#skipDigits() === 0) throw this.#error('expected a digit of the exponent');
    }
    return this.#finite(Number(this.#text.slice(start, this.#at)), start);
  }

  #finite<T extends number | bigint>(value: T, start: number): T {
    if (typeof value === 'bigint' || Number.isFinite(value)) return value;
    throw this.#error('the number is too large', start);
  }

  #skipDigits(): number {
    const from = this.#at;
    while (isDigit(this.#code())) this.#at += 1;
    return this.#at - from;
  }

  #string(): string {
    const text = this.#text;
    const open = this.#at;
    let from = open + 1;
    let result = '';
    for (let at = from; at < text.length; at += 1) {
      const unit = text.charCodeAt(at);
      if (unit === QUOTE) {
        this.#at = at + 1;
        return result + text.slice(from, at);
      }
      if (unit === BACKSLASH) {
        this.#at = at;
        result += text.slice(from, at) + this.#escape();
        from = this.#at;
        at = from - 1;
      }
    }
    throw this.#error('the string does not end', open);
  }

  /** Reads one escape, or the two of a surrogate pair; a surrogate alone becomes U+FFFD. */
  #escape(): string {
    const start = this.#at;
    const letter = this.#text[start + 1] ?? '';
    if (letter === 'u') {
      const unit = this.#unit(start);
      if (isLowSurrogate(unit)) return REPLACEMENT;
      if (!isHighSurrogate(unit)) return String.fromCharCode(unit);
      const next = this.#at;
      const low = this.#text.startsWith('\\u', next) ? this.#unit(next) : 0;
      if (isLowSurrogate(low)) return String.fromCharCode(unit, low);
      this.#at = next;
      return REPLACEMENT;
    }
    const character = ESCAPED.get(letter);
    if (character === undefined) throw this.#error('unknown escape', start);
    this.#at = start + 2;
    return character;
  }

  /** The value of the `\uXXXX` at `start`. */
  #unit(start: number): number {
    const digits = this.#text.slice(start + 2, start + 6);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw this.#error('expected four hex digits', start);
    this.#at = start + 6;
    return Number.parseInt(digits, 16);
  }

  /** Skips white space and comments. */
  #skipBlank(): void {
    for (;;) {
      const code = this.#code();
      if (code === SPACE || code === LINE_FEED || code === CARRIAGE_RETURN || code === TAB) {
        this.#at += 1;
      } else if (code === SLASH) {
        this.#skipComment();
      } else {
        return;
      }
    }
  }

  #skipComment(): void {
    const kind = this.#text.charCodeAt(this.#at + 1);
    if (kind === SLASH) {
      const end = this.#text.indexOf('\n', this.#at);
      this.#at = end < 0 ? this.#text.length : end;
    } else if (kind === STAR) {
      const end = this.#text.indexOf('*/', this.#at + 2);
      if (end < 0) throw this.#error('the comment does not end');
      this.#at = end + 2;
    } else {
      throw this.#error('expected a value');
    }
  }

  #error(problem: string, position = this.#at): EngineError {
    const near =
      position < this.#text.length
        ? `near ${JSON.stringify(this.#text.slice(position, position + 20))}`
        : 'where the text ends';
    return new EngineError(
      'ERR_TE_MALFORMED_JSON',
      `${problem} at position ${position} of ${this.#text.length}, ${near}`,
      { details: { position, length: this.#text.length, problem } },
    );
  }
}

/** An integer literal of any length; what does not fit into 64 bits becomes a double, as in C++. */
function integerOf(literal: string): number | bigint {
  const digits = literal.replace(/^-?0*/, '').length;
  if (digits > U64_DIGITS) return Number(literal);
  const exact = BigInt(literal);
  const near = Number(exact);
  const fits = exact >= JSON_INTEGER_MIN && exact <= JSON_INTEGER_MAX;
  return fits && !Number.isSafeInteger(near) ? exact : near;
}
