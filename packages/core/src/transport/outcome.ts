/**
 * How a transport ended slices. Numbers, because they travel on the hot path.
 *
 * The transport reports facts; what follows from them (retry, give up) is decided in core.
 */
export const Outcome = {
  /** The bytes are in the destination (or `sent`, if the route says it cannot know more). */
  ok: 0,
  /** The peer refused the address. Nothing was written. Never retried. */
  rejected: 1,
  /**
   * The lane ended for somebody else's reason before this slice was served. It is safe to send
   * the slice again, and it has lost no attempt.
   */
  replay: 2,
  /** The lane ended while this slice was the one being served. */
  peerLost: 3,
  /** No connection to the peer could be made. */
  connectFailed: 4,
  /** The peer stopped answering: a bound of the transport ran out. */
  timeout: 5,
  /** The peer broke the protocol. */
  protocolError: 6,
  /** Ended because core asked for it, or the transport was closed. */
  canceled: 7,
  /** Something on our side failed; the error says what. */
  localFault: 8,
  /** The bytes that arrived are not the bytes that were sent; the destination holds garbage. */
  corrupt: 9,
} as const;
export type Outcome = (typeof Outcome)[keyof typeof Outcome];

export const OUTCOME_NAMES = Object.fromEntries(
  Object.entries(Outcome).map(([name, code]) => [code, name]),
) as Readonly<Record<Outcome, keyof typeof Outcome>>;

/** What is known about the destination of a slice that did not end well. */
export interface Aftermath {
  /**
   * - `untouched`: no byte of the slice was applied, and none will be.
   * - `quiescent`: some bytes may have been applied; none will be any more.
   * - `unknown`: bytes may still be applied at any time.
   */
  readonly destination: 'untouched' | 'quiescent' | 'unknown';
  /** Bytes from the start of the slice that are known to be applied; absent when not known. */
  readonly appliedBytes?: number;
}
