/** Stops on a mistake of the programmer. Never caught, never used for what a peer or a user can cause. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${message}`);
}
