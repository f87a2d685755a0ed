import type { Logger } from '@transfer-engine/core';
import { pino } from 'pino';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Logs go to stderr, synchronously: stdout belongs to results, and a crash must not eat a line. */
export function createLogger(level: LogLevel, component: string): Logger {
  const destination = pino.destination({ dest: 2, sync: true });
  // Nobody reads stderr any more: that is no reason to end what is going on.
  destination.on('error', () => undefined);
  return pino(
    {
      level,
      name: `te ${component}`,
      serializers: { error: pino.stdSerializers.err, cause: pino.stdSerializers.err },
    },
    destination,
  );
}
