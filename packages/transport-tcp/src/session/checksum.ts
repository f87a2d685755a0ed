/**
 * CRC-32 as zlib has it. Rooms without I/O are given it, because it lives in a module of Node.
 *
 * @param before the checksum of the bytes that come before, 0 for none
 */
export type Checksum = (bytes: Uint8Array, before?: number) => number;
