import { readWord } from './session-header.ts';

/** Bytes of the answer that opens every reply of framing v2. */
export const STATUS_FRAME_BYTES = 8;
/** High half of the frame; "VTCM" in the order of the wire. */
export const STATUS_MAGIC = 0x4d43_5456;

/** Low half of the frame. Every code other than `ok` is a failure. */
export const StatusCode = { ok: 0, addressRejected: 1 } as const;

/** What {@link decodeStatusFrame} returns for bytes that are not a status frame. */
export const STATUS_MALFORMED = -1;

/**
 * Writes a status frame.
 *
 * @remarks Source: Mooncake 3b5a594, tcp_transport_session_impl.h; one little-endian u64.
 */
export function encodeStatusFrame(into: DataView, at: number, code: number): void {
  into.setUint32(at, code, true);
  into.setUint32(at + 4, STATUS_MAGIC, true);
}

/** The code of the frame at `at`, or {@link STATUS_MALFORMED} when the magic is not there. */
export function decodeStatusFrame(bytes: Uint8Array, at: number): number {
  return readWord(bytes, at + 4) === STATUS_MAGIC ? readWord(bytes, at) : STATUS_MALFORMED;
}
