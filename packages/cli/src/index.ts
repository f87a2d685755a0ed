export { runCli, type CliStreams } from './cli.ts';
export { LatencyHistogram } from './histogram.ts';
export { Shutdown } from './shutdown.ts';
