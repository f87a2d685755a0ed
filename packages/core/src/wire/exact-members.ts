import { invalidArgument } from '../base/errors.ts';
import { isU64 } from '../base/u64.ts';

/*
 * Checks of what is about to be written. A C++ reader that meets a wrong type ends its process, so
 * values are looked at even where the compiler already has.
 */

export const U16_MAX = 0xffff;
export const U32_MAX = 0xffff_ffff;

export function text(value: unknown, place: string): string {
  if (typeof value !== 'string') throw invalidArgument(place, value, 'a string');
  return value;
}

export function texts(values: readonly unknown[], place: string): string[] {
  return values.map((value, index) => text(value, `${place}[${index}]`));
}

/** A text that is not empty. */
export function filled(value: unknown, place: string): string {
  if (value === '') throw invalidArgument(place, value, 'a string that is not empty');
  return text(value, place);
}

export function u64(value: unknown, place: string): bigint {
  if (!isU64(value)) throw invalidArgument(place, value, 'a bigint from 0 to 2^64 - 1');
  return value;
}

/** A u64 that is not 0. */
export function positive(value: unknown, place: string): bigint {
  if (value === 0n) throw invalidArgument(place, value, 'a bigint from 1 to 2^64 - 1');
  return u64(value, place);
}

export function integer(value: unknown, min: number, max: number, place: string): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) {
    return value;
  }
  throw invalidArgument(place, value, `an integer from ${min} to ${max}`);
}
