import { parseArgs } from 'node:util';
import { usageFailure } from './failures.ts';
import type { OptionSpec, OptionSpecs, OptionValues } from './options.ts';

/** "bufferIndex" -> "buffer-index" */
export function optionName(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

export interface ParsedArguments<S extends OptionSpecs> {
  readonly values: OptionValues<S>;
  readonly positionals: readonly string[];
}

/**
 * Reads a command line against the options of a command.
 *
 * Names may be written with '-' or '_'. Values follow as `--name=value` or `--name value`; a flag
 * takes no value, `=true` or `=false`. Of an option given twice the last one counts. What follows
 * `--` is positional.
 *
 * @throws SetUpFailure naming the option, its value and what is accepted
 */
export function parseArguments<S extends OptionSpecs>(
  command: string,
  specs: S,
  argv: readonly string[],
): ParsedArguments<S> {
  const byName = new Map<string, [key: string, spec: OptionSpec<unknown>]>();
  for (const [key, spec] of Object.entries(specs)) byName.set(optionName(key), [key, spec]);

  const { tokens } = parseArgs({
    args: withDashes(argv),
    options: Object.fromEntries(
      [...byName].map(([name, [, spec]]) => [
        name,
        { type: spec.placeholder === undefined ? ('boolean' as const) : ('string' as const) },
      ]),
    ),
    strict: false,
    tokens: true,
  });

  const values: Record<string, unknown> = {};
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const known = byName.get(token.name);
    if (known === undefined || !token.rawName.startsWith('--')) {
      throw usageFailure(
        `option ${token.rawName} is unknown to '${command}'; accepted: ` +
          [...byName.keys()].map((name) => `--${name}`).join(', '),
      );
    }
    const [key, spec] = known;
    values[key] = valueOf(`--${token.name}`, spec, token.value, token.inlineValue === true);
  }
  for (const [name, [key, spec]] of byName) {
    if (key in values) continue;
    if (spec.required) {
      throw usageFailure(`option --${name} is missing in '${command}'; accepted: ${spec.accepted}`);
    }
    values[key] = spec.fallback;
  }
  // Every key of S was set above, by its own parser or from its own fallback.
  return { values: values as OptionValues<S>, positionals };
}

/** Whether the raw command line asks for JSON; for errors that come before it is understood. */
export function asksForJson(argv: readonly string[]): boolean | undefined {
  let asked: boolean | undefined;
  for (const argument of argv) {
    if (argument === '--') break;
    if (argument === '--json' || argument === '--json=true') asked = true;
    if (argument === '--json=false') asked = false;
  }
  return asked;
}

/** Refuses positional arguments beyond what a command takes. */
export function expectPositionals(
  command: string,
  given: readonly string[],
  names: readonly string[],
): void {
  if (given.length > names.length) {
    throw usageFailure(
      `argument ${JSON.stringify(given[names.length])} of '${command}' is one too many; ` +
        `accepted: ${names.length === 0 ? 'options only' : names.join(' ')}`,
    );
  }
  if (given.length < names.length) {
    throw usageFailure(
      `argument ${names[given.length] ?? ''} of '${command}' is missing; accepted: ${names.join(' ')}`,
    );
  }
}

function valueOf(
  name: string,
  spec: OptionSpec<unknown>,
  raw: string | undefined,
  inline: boolean,
): unknown {
  const isFlag = spec.placeholder === undefined;
  if (isFlag && raw === undefined) return true;
  // "--name --json" is a forgotten value; "--name=--json" says what it means.
  if (raw === undefined || (!inline && raw.startsWith('--'))) {
    throw usageFailure(`option ${name} has no value; accepted: ${spec.accepted}`);
  }
  const value = spec.parse(raw);
  if (value === undefined) {
    const shown = raw.length > 80 ? `${raw.slice(0, 80)}…` : raw;
    throw usageFailure(`option ${name} is ${JSON.stringify(shown)}; accepted: ${spec.accepted}`);
  }
  return value;
}

function dashed(argument: string): string {
  if (!argument.startsWith('--')) return argument;
  const end = argument.indexOf('=');
  const name = end === -1 ? argument : argument.slice(0, end);
  return name.replaceAll('_', '-') + (end === -1 ? '' : argument.slice(end));
}

/** Names of options with '-' for '_'; a separate value never starts with '--', so it stays. */
function withDashes(argv: readonly string[]): string[] {
  const end = argv.indexOf('--');
  return argv.map((argument, index) => (end !== -1 && index > end ? argument : dashed(argument)));
}
