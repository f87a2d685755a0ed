import type { Readable } from 'node:stream';
import type { Logger } from '@transfer-engine/core';
import { expectPositionals, optionName, parseArguments } from './args.ts';
import { LOG_LEVELS, type LogLevel } from './logging.ts';
import { choice, switchOption, type OptionSpecs, type OptionValues } from './options.ts';
import type { Output } from './output.ts';
import type { Shutdown } from './shutdown.ts';

/** What a command works with, besides its options. */
export interface CommandContext {
  readonly output: Output;
  readonly logger: Logger;
  readonly shutdown: Shutdown;
  readonly stdin: Readable;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Of the parent, so that its children log as it does. */
  readonly logLevel: LogLevel;
}

/** A command whose options were read and found good: what is left is to run it. */
export interface PreparedCommand {
  readonly json: boolean | undefined;
  readonly logLevel: LogLevel;
  run(context: CommandContext): Promise<number>;
}

export interface Command {
  /** "target", or two words: "metadata serve". */
  readonly name: string;
  readonly summary: string;
  /** True when a program is assumed to read whenever stdout is not a terminal. */
  readonly jsonWhenPiped: boolean;
  /** Left out of the list of commands: one that other commands start for themselves. */
  readonly internal: boolean;
  help(): string;
  /** @throws SetUpFailure for arguments that are not accepted; has no side effect. */
  prepare(argv: readonly string[]): PreparedCommand;
}

/** What the help of a command is made from. */
interface HelpFacts {
  readonly name: string;
  readonly summary: string;
  readonly details?: string;
  readonly positionals?: readonly string[];
  readonly options: OptionSpecs;
}

interface Definition<S extends OptionSpecs> extends HelpFacts {
  readonly options: S;
  readonly jsonWhenPiped?: boolean;
  readonly internal?: boolean;
  /** Checks what no single option can; runs before anything happens. */
  readonly check?: (values: OptionValues<S>) => void;
  readonly run: (
    values: OptionValues<S>,
    context: CommandContext,
    positionals: readonly string[],
  ) => Promise<number>;
}

const COMMON = {
  json: switchOption('one JSON object a line on stdout, and nothing else there'),
  logLevel: choice(LOG_LEVELS, { help: 'logs, on stderr', fallback: 'warn' }),
};

export function defineCommand<const S extends OptionSpecs>(definition: Definition<S>): Command {
  const command = `te ${definition.name}`;
  const { positionals: names = [] } = definition;
  return {
    name: definition.name,
    summary: definition.summary,
    jsonWhenPiped: definition.jsonWhenPiped ?? false,
    internal: definition.internal ?? false,
    help: () => helpText(definition),
    prepare(argv) {
      const own = parseArguments(command, { ...definition.options, ...COMMON }, argv);
      expectPositionals(command, own.positionals, names);
      const values = own.values as OptionValues<S> & OptionValues<typeof COMMON>;
      definition.check?.(values);
      return {
        json: values.json,
        logLevel: values.logLevel,
        run: (context) => definition.run(values, context, own.positionals),
      };
    },
  };
}

function helpText(definition: HelpFacts): string {
  const { positionals = [] } = definition;
  const usage = ['te', definition.name, '[options]', ...positionals].join(' ');
  const rows = Object.entries({ ...definition.options, ...COMMON, help: undefined }).map(
    ([key, spec]) => {
      if (spec === undefined) return ['  --help', 'this text'] as const;
      const value = spec.placeholder === undefined ? '' : ` ${spec.placeholder}`;
      return [`  --${optionName(key)}${value}`, spec.help + noteOn(spec)] as const;
    },
  );
  const width = Math.min(34, Math.max(...rows.map(([left]) => left.length)));
  const lines = rows.map(([left, right]) =>
    left.length > width
      ? `${left}\n${' '.repeat(width)}  ${right}`
      : `${left.padEnd(width)}  ${right}`,
  );
  const details = definition.details === undefined ? [] : [definition.details.trim(), ''];
  return [
    `usage: ${usage}`,
    '',
    `${definition.summary}.`,
    '',
    ...details,
    'options:',
    ...lines,
  ].join('\n');
}

function noteOn(spec: { readonly fallback: unknown; readonly required: boolean }): string {
  if (spec.required) return ' (required)';
  const { fallback } = spec;
  if (Array.isArray(fallback)) return ` (default ${fallback.join(',')})`;
  const shown = typeof fallback === 'string' || typeof fallback === 'number';
  return shown && fallback !== '' ? ` (default ${fallback})` : '';
}
