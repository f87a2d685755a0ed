import type { ErrorCode } from '../base/error-codes.ts';
import { EngineError } from '../base/errors.ts';
import { U64_MAX } from '../base/u64.ts';
import type { Json64, JsonObject } from './json-value.ts';
import { parseJson64 } from './parse-json64.ts';

/**
 * Reads the members of one object by the conversion rules of the C++ readers.
 *
 * Missing and null members read as 0, "", false and []; numbers read as text and fractions as
 * integers, as there. Where a C++ reader would end its process, this one throws an EngineError that
 * names the member. Source: jsoncpp, Value::asString, asInt, asUInt, asUInt64.
 */
export class MemberReader {
  readonly #members: JsonObject;
  readonly #place: string;
  readonly #document: string;
  readonly #code: ErrorCode;

  private constructor(members: JsonObject, place: string, document: string, code: ErrorCode) {
    this.#members = members;
    this.#place = place;
    this.#document = document;
    this.#code = code;
  }

  /** Text is parsed first; a root of null is an object without members. */
  static root(input: Json64, document: string, code: ErrorCode): MemberReader {
    const value = typeof input === 'string' ? parseJson64(input) : input;
    return new MemberReader(MemberReader.#object(value, '', document, code), '', document, code);
  }

  static #object(value: Json64, place: string, document: string, code: ErrorCode): JsonObject {
    if (value === null) return {};
    if (isObject(value)) return value;
    throw wrongMember(document, place, `is ${describe(value)}; expected an object`, code);
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#members, key);
  }

  /** The value as it is; null when it is missing. */
  raw(key: string): Json64 {
    return Object.hasOwn(this.#members, key) ? (this.#members[key] as Json64) : null;
  }

  keys(): string[] {
    return Object.keys(this.#members);
  }

  string(key: string): string {
    return this.#toText(this.raw(key), key);
  }

  /** An integer within [min, max], at most 53 bits. */
  integer(key: string, min: number, max: number, missing = 0): number {
    const value = this.raw(key);
    const number = Number(value === null ? missing : this.#toInteger(value, key));
    if (number >= min && number <= max) return number;
    throw this.error(key, `is ${describe(value)}; expected ${min} to ${max}`);
  }

  u64(key: string): bigint {
    return this.#toU64(this.raw(key), key);
  }

  object(key: string): MemberReader {
    return this.#child(this.raw(key), key);
  }

  /** The elements of an array of objects. */
  objects(key: string): MemberReader[] {
    return this.array(key).map((item, index) => this.#child(item, `${key}[${index}]`));
  }

  strings(key: string): string[] {
    return this.array(key).map((item, index) => this.#toText(item, `${key}[${index}]`));
  }

  u64s(key: string): bigint[] {
    return this.array(key).map((item, index) => this.#toU64(item, `${key}[${index}]`));
  }

  array(key: string): Json64[] {
    const value = this.raw(key);
    if (value === null) return [];
    if (Array.isArray(value)) return value;
    throw this.error(key, `is ${describe(value)}; expected an array`);
  }

  /** The error for a member that was read but cannot be accepted. */
  error(key: string, problem: string): EngineError {
    return wrongMember(this.#document, this.#at(key), problem, this.#code);
  }

  #at(key: string): string {
    return this.#place === '' ? key : `${this.#place}.${key}`;
  }

  #child(value: Json64, key: string): MemberReader {
    const place = this.#at(key);
    const members = MemberReader.#object(value, place, this.#document, this.#code);
    return new MemberReader(members, place, this.#document, this.#code);
  }

  #toText(value: Json64, key: string): string {
    if (value === null) return '';
    if (typeof value === 'object') {
      throw this.error(key, `is ${describe(value)}; expected a string`);
    }
    return String(value);
  }

  #toU64(value: Json64, key: string): bigint {
    if (value === null) return 0n;
    const integer = BigInt(this.#toInteger(value, key));
    if (integer >= 0n && integer <= U64_MAX) return integer;
    throw this.error(key, `is ${integer}; expected an unsigned 64-bit integer`);
  }

  #toInteger(value: Json64, key: string): number | bigint {
    // Plus 0, because what is left of -0.5 is a negative zero.
    if (typeof value === 'number') return Math.trunc(value) + 0;
    if (typeof value === 'bigint') return value;
    if (typeof value === 'boolean') return Number(value);
    throw this.error(key, `is ${describe(value)}; expected an integer`);
  }
}

export function isObject(value: Json64): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function describe(value: Json64): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object') return 'an object';
  if (typeof value !== 'string') return String(value);
  return `the string ${JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value)}`;
}

function wrongMember(
  document: string,
  place: string,
  problem: string,
  code: ErrorCode,
): EngineError {
  const subject = place === '' ? 'the root' : `member "${place}"`;
  return new EngineError(code, `${document}: ${subject} ${problem}`, {
    details: { document, member: place, problem },
  });
}
