import { runCli } from './cli.ts';
import { Shutdown } from './shutdown.ts';

/** As a shell reports a process that wrote into a closed pipe: 128 + SIGPIPE. */
const READER_GONE = 141;

const shutdown = new Shutdown();
const exit = (code: number): never => process.exit(code);

shutdown.listen(exit);
process.stdout.on('error', () => shutdown.stop(READER_GONE, exit));
process.stderr.on('error', () => undefined);

const code = await runCli(
  process.argv.slice(2),
  {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    environment: process.env,
  },
  shutdown,
);
await shutdown.run();
await shutdown.yieldToStop();
process.exitCode = code;
// Standard input may stay open, and nothing waits for it any more.
process.stdin.destroy();
// What was written is flushed by the end of the event loop; the timer only bounds that.
setTimeout(() => process.exit(code), 1_000).unref();
