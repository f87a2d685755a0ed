/** The server does not let this user run scripts, or has none. */
export function isScriptRefused(error: unknown): boolean {
  return error instanceof Error && /NOPERM|unknown command/i.test(error.message);
}
