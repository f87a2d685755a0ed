import { highWord, joinWords } from '@transfer-engine/core/transport';

/** Bytes of a request header. The last seven are the padding of a C struct: sent, and meaningless. */
export const SESSION_HEADER_BYTES = 24;
/** Bit of the opcode byte that asks for acknowledgement (framing v2). */
export const ACKNOWLEDGED = 0x80;

const OPCODE_AT = 16;

/** A request header as the target sees it. One record is decoded into again and again. */
export class SessionHeader {
  /** Payload bytes; NaN when the peer wrote more than 2^53 - 1. */
  length = 0;
  /** First address in the target's segment; NaN from 2^53 on. */
  address = 0;
  addressLow = 0;
  addressHigh = 0;
  /** Low seven bits of the opcode byte: 0 READ, 1 WRITE. */
  opcode = 0;
  /** Whether the peer waits for a status frame (framing v2). */
  acknowledged = false;
}

/**
 * Writes the header that opens one transfer on a data connection.
 *
 * @param opcode 0 READ, 1 WRITE; with {@link ACKNOWLEDGED} for framing v2
 * @param length payload bytes, at most 2^53 - 1
 * @remarks All integers are little-endian. The padding is sent as zeros, so that no memory of this
 * process leaks. Source: Mooncake 3b5a594, tcp_transport_session_impl.h (SessionHeader).
 */
export function encodeSessionHeader(
  into: DataView,
  at: number,
  opcode: number,
  length: number,
  addressLow: number,
  addressHigh: number,
): void {
  into.setUint32(at, length >>> 0, true);
  into.setUint32(at + 4, length > 0xffff_ffff ? highWord(length) : 0, true);
  into.setUint32(at + 8, addressLow, true);
  into.setUint32(at + 12, addressHigh, true);
  into.setUint32(at + OPCODE_AT, opcode, true);
  into.setUint32(at + OPCODE_AT + 4, 0, true);
}

/** Reads a header from 24 bytes at `at`; any bytes are accepted, what they ask for may not be. */
export function decodeSessionHeader(bytes: Uint8Array, at: number, into: SessionHeader): void {
  into.length = joinWords(readWord(bytes, at), readWord(bytes, at + 4));
  into.addressLow = readWord(bytes, at + 8);
  into.addressHigh = readWord(bytes, at + 12);
  into.address = joinWords(into.addressLow, into.addressHigh);
  const opcode = bytes[at + OPCODE_AT] as number;
  into.opcode = opcode & 0x7f;
  into.acknowledged = opcode >= ACKNOWLEDGED;
}

/** An unsigned 32-bit little-endian integer. */
export function readWord(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  );
}
