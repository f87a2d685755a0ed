/**
 * A JSON value whose integers are exact: a `number` while it is a safe integer, else a `bigint`.
 * Numbers written with a fraction or an exponent are always `number`.
 */
export type Json64 = null | boolean | number | bigint | string | Json64[] | JsonObject;

/** Objects that the parser makes have no prototype, so any key is an ordinary member. */
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
