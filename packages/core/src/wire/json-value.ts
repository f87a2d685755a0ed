/**
 * A JSON value whose integers are exact: a `number` while it is a safe integer, else a `bigint`.
 * Numbers written with a fraction or an exponent are always `number`.
 */
export type Json64 = null | boolean | number | bigint | string | Json64[] | JsonObject;

/** Objects that the parser makes inherit nothing, so any key is an ordinary member. */
export interface JsonObject {
  [key: string]: Json64;
}

/** Containers may nest this deep. Source: jsoncpp, CharReaderBuilder, `stackLimit`. */
export const JSON_DEPTH_MAX = 1000;

/** Smallest and largest integers that documents hold. */
export const JSON_INTEGER_MIN = -(2n ** 63n);
export const JSON_INTEGER_MAX = 2n ** 64n - 1n;

/** What etcd, redis and the control port have at the end of a document, and HTTP has not. */
export const withNewline = (json: string): string => `${json}\n`;

/**
 * What parsed objects inherit: nothing, not even `__proto__`. Objects without any prototype do the
 * same, but V8 keeps each as a hash table, three times as large and slower.
 */
const EMPTY_PROTOTYPE = Object.freeze(Object.create(null) as object);

export const newJsonObject = (): JsonObject => Object.create(EMPTY_PROTOTYPE) as JsonObject;

/** Whether this is an object that JSON can hold, and no instance of a class. */
export function isPlainObject(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === EMPTY_PROTOTYPE || prototype === Object.prototype || prototype === null;
}
