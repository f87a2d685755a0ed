/**
 * For both ends of a data connection. Small frames must not wait for more; and since idle
 * connections may stay for ever, the system asks now and then whether the other host still exists.
 */
export const SOCKET_OPTIONS = {
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: 60_000,
} as const;
