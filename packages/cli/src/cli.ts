import type { Readable } from 'node:stream';
import { asksForJson } from './args.ts';
import type { Command } from './command.ts';
import { COMMANDS } from './commands/index.ts';
import { ExitCode, SetUpFailure, usageFailure } from './failures.ts';
import { createLogger } from './logging.ts';
import { Output, type TextSink } from './output.ts';
import type { Shutdown } from './shutdown.ts';
import { packageVersion } from './version.ts';

/** Where the CLI reads and writes. */
export interface CliStreams {
  readonly stdin: Readable;
  readonly stdout: TextSink;
  readonly stderr: TextSink;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/**
 * Runs one command line (without the program's own name).
 *
 * @returns the exit code: 0 ok, 1 an operation failed, 2 the set-up failed
 */
export async function runCli(
  argv: readonly string[],
  streams: CliStreams,
  shutdown: Shutdown,
): Promise<number> {
  const { stdout, stderr } = streams;
  const early = earlyAnswer(argv);
  if (early !== undefined) {
    stdout.write(`${early}\n`);
    return ExitCode.ok;
  }
  const command = findCommand(argv);
  const title = command === undefined ? 'te' : `te ${command.name}`;
  const piped = stdout.isTTY !== true && command?.jsonWhenPiped === true;
  let output = new Output(asksForJson(argv) ?? piped, stdout, stderr);
  try {
    if (command === undefined) throw unknownCommand(argv);
    const prepared = command.prepare(argv.slice(command.name.split(' ').length));
    output = new Output(prepared.json ?? piped, stdout, stderr);
    shutdown.add(() => output.mute());
    return await prepared.run({
      output,
      shutdown,
      logger: createLogger(prepared.logLevel, command.name),
      logLevel: prepared.logLevel,
      stdin: streams.stdin,
      environment: streams.environment,
    });
  } catch (thrown) {
    // After a stop signal everything fails; that is not news.
    if (!shutdown.signal.aborted) output.failure(title, thrown);
    return thrown instanceof SetUpFailure ? ExitCode.setUpFailed : ExitCode.operationFailed;
  }
}

function findCommand(argv: readonly string[]): Command | undefined {
  const words = argv.slice(0, 2).join(' ');
  return COMMANDS.find((one) => one.name === argv[0] || one.name === words);
}

function earlyAnswer(argv: readonly string[]): string | undefined {
  const end = argv.indexOf('--');
  const options = end === -1 ? argv : argv.slice(0, end);
  if (options.includes('--help') || options.includes('-h') || argv[0] === 'help') {
    return findCommand(argv[0] === 'help' ? argv.slice(1) : argv)?.help() ?? globalHelp();
  }
  if (options.includes('--version')) return packageVersion();
  return argv.length === 0 ? globalHelp() : undefined;
}

function unknownCommand(argv: readonly string[]): SetUpFailure {
  const names = COMMANDS.filter((one) => !one.internal).map((one) => one.name);
  const group = names.filter((name) => name.startsWith(`${argv[0] ?? ''} `));
  const given = argv.slice(0, group.length > 0 ? 2 : 1).join(' ');
  return usageFailure(
    `command ${JSON.stringify(given)} is unknown; accepted: ` +
      (group.length > 0 ? group : names).join(', '),
  );
}

function globalHelp(): string {
  const shown = COMMANDS.filter((one) => !one.internal);
  const width = Math.max(...shown.map((one) => one.name.length));
  return [
    'usage: te COMMAND [options]',
    '',
    'Moves bytes between processes and hosts, wire-compatible with the Mooncake Transfer Engine.',
    '',
    'commands:',
    ...shown.map((one) => `  ${one.name.padEnd(width)}  ${one.summary}`),
    '',
    "'te COMMAND --help' lists the options of a command; --version prints the version.",
    'exit codes: 0 ok, 1 an operation failed, 2 the set-up failed, 128+n ended by signal n',
  ].join('\n');
}
