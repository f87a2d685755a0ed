import type { Logger } from '@transfer-engine/core';
import { pino } from 'pino';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Logs go to stderr, synchronously: stdout belongs to results, and a crash must not eat a line. */
export function createLogger(level: LogLevel, component: string): Logger {
  return pino(
    {
      level,
      name: `te ${component}`,
      serializers: { error: pino.stdSerializers.err, cause: pino.stdSerializers.err },
    },
    pino.destination({ dest: 2, sync: true }),
  );
}
