import { highWord, joinWords } from '@transfer-engine/core/transport';
import { readWord } from './session-header.ts';
import { STATUS_MAGIC } from './status-frame.ts';

/**
 * The framing between engines of our own kind, "x1". Every frame has 24 bytes, as a request header
 * of the older framings has; a connection speaks x1 from the hello on that opens it. The byte
 * tables are in docs/wire/tcp-extended.md.
 */
export const EXTENDED_CAPABILITY = 'tcp.x1';
export const EXTENDED_FRAME_BYTES = 24;
/** A hello is two frames. */
export const HELLO_BYTES = 2 * EXTENDED_FRAME_BYTES;
export const TOKEN_BYTES = 16;
/** A refused WRITE of up to this size is read to its end, and the connection goes on. */
export const REFUSED_BODY_MAX_BYTES = 8 * 1024 * 1024;
/** READs above this size are not served with a checksum, which goes before the payload. */
export const CHECKED_READ_MAX_BYTES = 16 * 1024 * 1024;

/**
 * A target without x1 takes a hello for a v2 READ of 0 bytes, which it refuses, and closes.
 * The bytes "TEX1" in the padding keep a stray header from being taken for a hello.
 */
const HELLO_OPCODE = 0xfe;
const HELLO_MAGIC = 0x3158_4554;
/** Extended requests: 0xC0 READ, 0xC1 WRITE. */
const EXTENDED_REQUEST = 0xc0;

/** What a hello opens the connection for. */
export const HelloKind = {
  /** Requests follow. */
  open: 1,
  /** Ends the connection that has the token; nothing follows. */
  abort: 2,
} as const;
export type HelloKind = (typeof HelloKind)[keyof typeof HelloKind];

export const ExtendedStatus = {
  ok: 0,
  /** The range is not in one registered region, or not permitted. Nothing was touched. */
  rejected: 1,
  /** The payload does not have the checksum of the request; the destination holds other bytes. */
  corrupt: 2,
  /** Answer to a hello: the engine of that instance is gone. */
  stale: 3,
  /** Answer to an abort: the connection has ended, and the frame tells how far it came. */
  aborted: 4,
} as const;
export type ExtendedStatus = (typeof ExtendedStatus)[keyof typeof ExtendedStatus];

const FLAG_CHECKSUM = 1;
const FLAG_IN_PROGRESS = 2;

export interface Hello {
  readonly kind: HelloKind;
  /** Instance of the target, as its document says: 16 hexadecimal digits. */
  readonly instance: string;
  /** Random; names the connection. */
  readonly token: Uint8Array;
}

/** Writes both frames of a hello. */
export function encodeHello(into: DataView, at: number, hello: Hello): void {
  const words = instanceWords(hello.instance);
  into.setUint32(at, 0, true);
  into.setUint32(at + 4, 0, true);
  into.setUint32(at + 8, words.low, true);
  into.setUint32(at + 12, words.high, true);
  into.setUint8(at + 16, HELLO_OPCODE);
  into.setUint32(at + 17, HELLO_MAGIC, true);
  into.setUint8(at + 21, hello.kind);
  into.setUint16(at + 22, 0, true);
  for (let index = 0; index < TOKEN_BYTES; index += 1) {
    into.setUint8(at + EXTENDED_FRAME_BYTES + index, hello.token[index] ?? 0);
  }
  into.setUint32(at + EXTENDED_FRAME_BYTES + 16, 0, true);
  into.setUint32(at + EXTENDED_FRAME_BYTES + 20, 0, true);
}

/** The first frame of a hello; undefined when the bytes are anything else. */
export function decodeHello(
  bytes: Uint8Array,
  at: number,
): { readonly kind: HelloKind; readonly instance: string } | undefined {
  if (bytes[at + 16] !== HELLO_OPCODE || readWord(bytes, at + 17) !== HELLO_MAGIC) return undefined;
  if (readWord(bytes, at) !== 0 || readWord(bytes, at + 4) !== 0) return undefined;
  const kind = bytes[at + 21];
  if (kind !== HelloKind.open && kind !== HelloKind.abort) return undefined;
  return { kind, instance: hex(readWord(bytes, at + 12)) + hex(readWord(bytes, at + 8)) };
}

/** The second frame of a hello: its token, as hexadecimal digits. */
export function decodeToken(bytes: Uint8Array, at: number): string {
  let token = '';
  for (let index = 0; index < TOKEN_BYTES; index += 4) token += hex(readWord(bytes, at + index));
  return token;
}

/** Whether an instance can stand in a hello: others (of foreign kinds) are met in framing v2. */
export function isHelloInstance(instance: string): boolean {
  return /^[0-9a-f]{16}$/.test(instance);
}

/** An extended request as the target sees it. One record is decoded into again and again. */
export class ExtendedRequest {
  isWrite = false;
  /** Payload bytes; NaN when the peer wrote more than 2^53 - 1. */
  length = 0;
  /** NaN from 2^53 on. */
  address = 0;
  addressLow = 0;
  addressHigh = 0;
  /** Counts up modulo 2^16; the answer has the same. */
  id = 0;
  checked = false;
  /** CRC-32 of the payload of a WRITE, when `checked`. */
  checksum = 0;
}

/** @param checksum CRC-32 of a WRITE's payload; undefined asks for no check */
export function encodeExtendedRequest(
  into: DataView,
  at: number,
  isWrite: boolean,
  length: number,
  addressLow: number,
  addressHigh: number,
  id: number,
  checksum: number | undefined,
): void {
  into.setUint32(at, length >>> 0, true);
  into.setUint32(at + 4, length > 0xffff_ffff ? highWord(length) : 0, true);
  into.setUint32(at + 8, addressLow, true);
  into.setUint32(at + 12, addressHigh, true);
  into.setUint8(at + 16, isWrite ? EXTENDED_REQUEST | 1 : EXTENDED_REQUEST);
  into.setUint8(at + 17, checksum === undefined ? 0 : FLAG_CHECKSUM);
  into.setUint16(at + 18, id & 0xffff, true);
  into.setUint32(at + 20, checksum ?? 0, true);
}

/** False when the bytes are no extended request. */
export function decodeExtendedRequest(
  bytes: Uint8Array,
  at: number,
  into: ExtendedRequest,
): boolean {
  const opcode = bytes[at + 16] as number;
  if ((opcode & 0xfe) !== EXTENDED_REQUEST) return false;
  into.isWrite = (opcode & 1) === 1;
  into.length = joinWords(readWord(bytes, at), readWord(bytes, at + 4));
  into.addressLow = readWord(bytes, at + 8);
  into.addressHigh = readWord(bytes, at + 12);
  into.address = joinWords(into.addressLow, into.addressHigh);
  into.checked = ((bytes[at + 17] as number) & FLAG_CHECKSUM) !== 0;
  into.id = (bytes[at + 18] as number) | ((bytes[at + 19] as number) << 8);
  into.checksum = readWord(bytes, at + 20);
  return true;
}

/** An answer as the initiator sees it. One record is decoded into again and again. */
export class ExtendedAnswer {
  code: number = ExtendedStatus.ok;
  id = 0;
  checked = false;
  /** Answer to an abort: a WRITE was being applied. */
  inProgress = false;
  /** CRC-32 of the payload of a READ; requests served, in the answer to an abort. */
  value = 0;
  /** Payload that was applied. */
  appliedBytes = 0;
}

/** @param value checksum of a READ's payload, or requests served; undefined for neither */
export function encodeExtendedAnswer(
  into: DataView,
  at: number,
  code: ExtendedStatus,
  id: number,
  value: number | undefined,
  appliedBytes: number,
  inProgress = false,
): void {
  into.setUint32(at, code, true);
  into.setUint32(at + 4, STATUS_MAGIC, true);
  into.setUint16(at + 8, id & 0xffff, true);
  into.setUint8(
    at + 10,
    (value === undefined ? 0 : FLAG_CHECKSUM) | (inProgress ? FLAG_IN_PROGRESS : 0),
  );
  into.setUint8(at + 11, 0);
  into.setUint32(at + 12, (value ?? 0) >>> 0, true);
  into.setUint32(at + 16, appliedBytes >>> 0, true);
  into.setUint32(at + 20, appliedBytes > 0xffff_ffff ? highWord(appliedBytes) : 0, true);
}

/** False when the bytes are no answer. */
export function decodeExtendedAnswer(bytes: Uint8Array, at: number, into: ExtendedAnswer): boolean {
  if (readWord(bytes, at + 4) !== STATUS_MAGIC) return false;
  into.code = readWord(bytes, at);
  into.id = (bytes[at + 8] as number) | ((bytes[at + 9] as number) << 8);
  const flags = bytes[at + 10] as number;
  into.checked = (flags & FLAG_CHECKSUM) !== 0;
  into.inProgress = (flags & FLAG_IN_PROGRESS) !== 0;
  into.value = readWord(bytes, at + 12);
  into.appliedBytes = joinWords(readWord(bytes, at + 16), readWord(bytes, at + 20));
  return true;
}

function instanceWords(instance: string): { readonly low: number; readonly high: number } {
  return {
    low: Number.parseInt(instance.slice(8), 16),
    high: Number.parseInt(instance.slice(0, 8), 16),
  };
}

const hex = (word: number): string => word.toString(16).padStart(8, '0');
