import { BYTES_ACCEPTED, parseBytes } from './units.ts';

/** One option of a command. Options without a placeholder are flags. */
export interface OptionSpec<T> {
  readonly placeholder?: string;
  readonly help: string;
  /** Completes "…; accepted: " in the message that refuses a value. */
  readonly accepted: string;
  /** The value, or undefined when the text is not accepted. */
  readonly parse: (text: string) => T | undefined;
  readonly fallback: T | undefined;
  readonly required: boolean;
}

export type OptionSpecs = Readonly<Record<string, OptionSpec<unknown>>>;

/** What a command gets: one member for each option, by its name in camel case. */
export type OptionValues<S extends OptionSpecs> = {
  readonly [K in keyof S]: S[K] extends OptionSpec<infer T> ? T : never;
};

interface Common<T> {
  readonly help: string;
  readonly fallback?: T;
}

export function flag(help: string): OptionSpec<boolean> {
  return {
    help,
    accepted: 'true or false',
    parse: (text) => (text === 'true' ? true : text === 'false' ? false : undefined),
    fallback: false,
    required: false,
  };
}

/** A flag whose absence is a third case. */
export function switchOption(help: string): OptionSpec<boolean | undefined> {
  return { ...flag(help), fallback: undefined };
}

export function text(
  placeholder: string,
  o: Common<string> & { fallback: string },
): OptionSpec<string>;
export function text(placeholder: string, o: Common<string>): OptionSpec<string | undefined>;
export function text(placeholder: string, o: Common<string>): OptionSpec<string | undefined> {
  return {
    placeholder,
    help: o.help,
    accepted: 'any text that is not empty',
    parse: (value) => (value === '' ? undefined : value),
    fallback: o.fallback,
    required: false,
  };
}

/** Text that may be empty. */
export function anyText(
  placeholder: string,
  o: Common<string> & { fallback: string },
): OptionSpec<string> {
  return { ...text(placeholder, o), accepted: 'any text', parse: (value) => value };
}

export function requiredText(placeholder: string, help: string): OptionSpec<string> {
  return { ...text(placeholder, { help, fallback: '' }), fallback: undefined, required: true };
}

interface Range {
  readonly min: number;
  readonly max: number;
}

export function integer(o: Common<number> & Range & { fallback: number }): OptionSpec<number>;
export function integer(o: Common<number> & Range): OptionSpec<number | undefined>;
export function integer(o: Common<number> & Range): OptionSpec<number | undefined> {
  return {
    placeholder: 'N',
    help: o.help,
    accepted: `a whole number from ${o.min} to ${o.max}`,
    parse: (value) => {
      const number = /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN;
      return number >= o.min && number <= o.max ? number : undefined;
    },
    fallback: o.fallback,
    required: false,
  };
}

export function bytes(o: Common<number> & Range & { fallback: number }): OptionSpec<number>;
export function bytes(o: Common<number> & Range): OptionSpec<number | undefined>;
export function bytes(o: Common<number> & Range): OptionSpec<number | undefined> {
  return {
    placeholder: 'BYTES',
    help: o.help,
    accepted: `${BYTES_ACCEPTED}, from ${o.min} to ${o.max}`,
    parse: (value) => {
      const number = parseBytes(value);
      return number !== undefined && number >= o.min && number <= o.max ? number : undefined;
    },
    fallback: o.fallback,
    required: false,
  };
}

/** A positive number that may have a fraction, like a duration in seconds. */
export function decimal(
  placeholder: string,
  o: Common<number> & Range & { fallback: number },
): OptionSpec<number> {
  return {
    placeholder,
    help: o.help,
    accepted: `a number from ${o.min} to ${o.max}`,
    parse: (value) => {
      const number = /^\d+(\.\d+)?$/.test(value) ? Number(value) : Number.NaN;
      return number >= o.min && number <= o.max ? number : undefined;
    },
    fallback: o.fallback,
    required: false,
  };
}

export function choice<const T extends string>(
  choices: readonly T[],
  o: { readonly help: string; readonly fallback: T },
): OptionSpec<T> {
  return {
    placeholder: choices.join('|'),
    help: o.help,
    accepted: choices.join(', '),
    parse: (value) => choices.find((one) => one === value),
    fallback: o.fallback,
    required: false,
  };
}

/** Several of the choices, separated by commas, in the order of the user. */
export function list<const T extends string>(
  choices: readonly T[],
  o: { readonly help: string; readonly fallback: readonly T[] | undefined },
): OptionSpec<readonly T[]> {
  return {
    placeholder: 'LIST',
    help: o.help,
    accepted: `one or several of ${choices.join(', ')}, separated by commas`,
    parse: (value) => {
      const picked = value.split(',').map((part) => choices.find((one) => one === part.trim()));
      return picked.every((one) => one !== undefined) ? picked : undefined;
    },
    fallback: o.fallback,
    required: o.fallback === undefined,
  };
}

/** An address in a segment: decimal, or hexadecimal after 0x. */
export function address(help: string): OptionSpec<bigint | undefined> {
  return {
    placeholder: 'ADDRESS',
    help,
    accepted: 'an unsigned 64-bit number, decimal or 0x…',
    parse: (value) => {
      if (!/^(\d{1,20}|0x[0-9a-f]{1,16})$/i.test(value)) return undefined;
      const parsed = BigInt(value);
      return parsed <= 0xffff_ffff_ffff_ffffn ? parsed : undefined;
    },
    fallback: undefined,
    required: false,
  };
}
