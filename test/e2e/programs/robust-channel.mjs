// What every program of these suites is: methods that its parent calls by messages
// { id, method, argument }, answered with { id, result } or { id, error }.

// Made lazily otherwise, by whatever touches it first, and counted as a handle from then on.
void process.stderr;

export function toPlain(error) {
  if (!(error instanceof Error)) return { name: 'thrown', message: String(error) };
  const { name, message, code, stack, details } = error;
  return { name, message, code, stack, details };
}

/** Tells the parent something that it did not ask for. */
export function tell(event) {
  process.send({ event });
}

export function serve(methods) {
  process.on('message', async ({ id, method, argument }) => {
    try {
      const result = await methods[method](argument ?? {});
      process.send({ id, result });
    } catch (error) {
      process.send({ id, error: toPlain(error) });
    }
  });
  process.on('disconnect', () => process.exit(0));
  process.on('unhandledRejection', (error) => {
    process.stderr.write(`unhandled rejection: ${error?.stack ?? error}\n`);
    process.exit(70);
  });
  process.send({ id: 0, result: 'ready' });
}

/** Handles and timers that the process has, sorted. */
export const resources = () => process.getActiveResourcesInfo().sort();

/** After a collection. */
export function memory() {
  globalThis.gc();
  globalThis.gc();
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  return { rss, heapUsed, arrayBuffers };
}
