import { invalidArgument, type EngineError } from '../base/errors.ts';
import { isPlainObject, JSON_DEPTH_MAX, JSON_INTEGER_MAX, JSON_INTEGER_MIN } from './json-value.ts';

/**
 * Writes compact JSON as the C++ engines write it: keys in the order of their UTF-8 bytes,
 * non-ASCII characters as `\uXXXX`, `/` as it is, integers as plain digits. No newline at the end.
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT`, naming the place, for what JSON or the peer cannot
 * hold: undefined, functions, non-finite numbers, bigints beyond 64 bits, class instances, strings
 * with a lone surrogate, nesting deeper than {@link JSON_DEPTH_MAX}.
 */
export function stringifyJson64(value: unknown): string {
  return new Writer().write(value);
}

const PATH_SHOWN = 8;

class Writer {
  /** Keys and indices from the root to the value being written. */
  readonly #path: (string | number)[] = [];
  /** Keys of the last object, in its own order and in that of the text: buffers are all alike. */
  #keys: readonly string[] = [];
  #sortedKeys: readonly string[] = [];

  write(value: unknown): string {
    switch (typeof value) {
      case 'string':
        return this.#string(value);
      case 'number':
        return this.#number(value);
      case 'bigint':
        if (value >= JSON_INTEGER_MIN && value <= JSON_INTEGER_MAX) return value.toString();
        throw this.#refused(value, 'a 64-bit integer');
      case 'boolean':
        return value ? 'true' : 'false';
      case 'object':
        if (value === null) return 'null';
        if (this.#path.length >= JSON_DEPTH_MAX) {
          throw this.#refused(value, `nesting of at most ${JSON_DEPTH_MAX} levels`);
        }
        return Array.isArray(value) ? this.#array(value) : this.#object(value);
      default:
        throw this.#refused(value, 'a JSON value');
    }
  }

  #number(value: number): string {
    if (!Number.isFinite(value)) throw this.#refused(value, 'a finite number');
    if (Object.is(value, -0)) return '-0.0';
    // Digits would be read back as an exact integer, which a number of this size is not.
    if (Number.isInteger(value) && !Number.isSafeInteger(value)) return value.toExponential();
    return String(value);
  }

  #array(items: readonly unknown[]): string {
    let text = '[';
    for (let index = 0; index < items.length; index += 1) {
      this.#path.push(index);
      if (index > 0) text += ',';
      text += this.write(items[index]);
      this.#path.pop();
    }
    return text + ']';
  }

  #object(value: object): string {
    if (!isPlainObject(value)) throw this.#refused(value, 'a plain object');
    const members = value as Record<string, unknown>;
    let text = '{';
    for (const key of this.#sorted(Object.keys(members))) {
      this.#path.push(key);
      if (text.length > 1) text += ',';
      text += this.#string(key) + ':' + this.write(members[key]);
      this.#path.pop();
    }
    return text + '}';
  }

  #sorted(keys: readonly string[]): readonly string[] {
    const known = this.#keys;
    if (keys.length === known.length && keys.every((key, index) => key === known[index])) {
      return this.#sortedKeys;
    }
    this.#keys = keys;
    this.#sortedKeys = keys.toSorted(compareUtf8);
    return this.#sortedKeys;
  }

  #string(text: string): string {
    if (isPlain(text)) return `"${text}"`;
    let quoted = '"';
    // Iterates over code points, so that only surrogates without their partner come out alone.
    for (const character of text) {
      const code = character.codePointAt(0) as number;
      if (code >= 0xd800 && code <= 0xdfff) {
        throw this.#refused(text, 'well-formed Unicode (a surrogate stands alone)');
      }
      quoted += isPlain(character) ? character : escape(character);
    }
    return `${quoted}"`;
  }

  #refused(value: unknown, accepted: string): EngineError {
    const steps = this.#path.slice(0, PATH_SHOWN).map((step) => `[${JSON.stringify(step)}]`);
    const rest = this.#path.length > PATH_SHOWN ? '…' : '';
    return invalidArgument(`value${steps.join('')}${rest}`, value, accepted);
  }
}

/** Whether every character stands for itself between quotes. */
const isPlain = (text: string): boolean => /^[\x20\x21\x23-\x5b\x5d-\x7f]*$/.test(text);

const SHORT_ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

/** One character as C++ escapes it; two escapes when it needs two UTF-16 units. */
function escape(character: string): string {
  const hex = (unit: string): string => unit.charCodeAt(0).toString(16).padStart(4, '0');
  return (
    SHORT_ESCAPES[character] ??
    character
      .split('')
      .map((unit) => `\\u${hex(unit)}`)
      .join('')
  );
}

/**
 * Order of the UTF-8 bytes. UTF-16 order differs from it only where a surrogate meets a unit above
 * the surrogates.
 */
function compareUtf8(left: string, right: string): number {
  const common = Math.min(left.length, right.length);
  for (let at = 0; at < common; at += 1) {
    const a = left.charCodeAt(at);
    const b = right.charCodeAt(at);
    if (a !== b) return rank(a) - rank(b);
  }
  return left.length - right.length;
}

const rank = (unit: number): number => (unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit);
