import type { ByteStore } from '../memory/byte-store.ts';

/** Direction of a transfer, with the numbers of the wire and of the C++ interface. */
export const Opcode = { read: 0, write: 1 } as const;
export type Opcode = (typeof Opcode)[keyof typeof Opcode];

/**
 * One piece of work, described in a record that the transport owns and reuses.
 *
 * READ copies from the peer's memory at the address to `store` at `offset`; WRITE the other way.
 */
export class Slice {
  opcode: Opcode = Opcode.read;
  /** Local bytes. */
  store: ByteStore | undefined;
  offset = 0;
  /** At least 1. */
  length = 0;
  /** Address in the peer's segment: low and high 32 bits. */
  addressLow = 0;
  addressHigh = 0;
  /** 0 for the first try. Transports with several paths may take another one for later tries. */
  attempt = 0;
  /** The bytes travel with a checksum; only asked of routes with `checksums`. */
  checksum = false;
}

/**
 * A sequence of slices of one submission, offered to one route.
 *
 * A transport looks at the next slice, and takes it if it has room for exactly this one. What it
 * took is its own until it reported the outcome, in the order in which it took them.
 */
export interface SliceRun {
  /** Describes the next slice; false when the run has no more. Has no effect. */
  peek(into: Slice): boolean;
  /** Takes the slice that `peek` describes. */
  take(): void;
}
