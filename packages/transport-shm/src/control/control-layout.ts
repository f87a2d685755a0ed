/**
 * The control object of an engine: a small shared object by which engines of one host prove that
 * they share it, see which memory is offered at this moment, and who is touching whose memory.
 *
 * Only its owner writes to it. All numbers are little-endian; words of 32 bits are read and written
 * whole. The path and the token of the object travel in the engine's document.
 *
 * | bytes | what |
 * |---|---|
 * | 0 | magic, 8 bytes |
 * | 8 | token, 16 bytes: random, as in the document |
 * | 24 | pid of the owner |
 * | 28 | 1 while the engine is open |
 * | 32 | start of the owner's process in clock ticks (double) |
 * | 40 | number of its pid namespace (double) |
 * | 48 | version of the rows; odd while they are being changed |
 * | 52 | rows that were ever used |
 * | 56 | tag: number by which others say that they touch this engine's memory; neither 0 nor 2^32 - 1 |
 * | 1024 | 256 hazards of 4 bytes: tags of the engines whose memory the owner is touching |
 * | 4096 | rows of 128 bytes |
 */
export const CONTROL_MAGIC = Buffer.from('TESHM\x00\x01\n', 'latin1');
export const MAGIC_AT = 0;
export const TOKEN_AT = 8;
export const TOKEN_BYTES = 16;
export const PID_AT = 24;
export const STATE_AT = 28;
export const START_TIME_AT = 32;
export const NAMESPACE_AT = 40;
export const VERSION_AT = 48;
export const ROWS_USED_AT = 52;
export const TAG_AT = 56;
export const HAZARDS_AT = 1024;
export const HAZARDS = 256;
/** A hazard that stands for every engine. */
export const ANY_TAG = 0xffff_ffff;
export const HEADER_BYTES = 4096;
export const ROW_BYTES = 128;
export const ROWS = 8192;
export const CONTROL_BYTES = HEADER_BYTES + ROWS * ROW_BYTES;

export const EngineState = { closed: 0, open: 1 } as const;

/** What a row stands for. */
export const RowState = {
  free: 0,
  /** An object of the engine that peers do not get to see; recorded so that it can be removed. */
  owned: 1,
  /** A region that peers may reach. */
  offered: 2,
} as const;
export type RowState = (typeof RowState)[keyof typeof RowState];

const FLAG_WRITABLE = 1;
const FLAG_UNLINK = 2;

/** One row: an object, and the region of it that peers may reach. */
export interface ControlRow {
  readonly state: RowState;
  /** Peers may write. */
  readonly writable: boolean;
  /** The object goes with the engine. */
  readonly unlink: boolean;
  /** The region: where it starts in the segment, and its bytes. */
  readonly address: number;
  readonly length: number;
  /** Where the region starts in the object. */
  readonly offset: number;
  readonly inode: number;
  readonly name: string;
}

export function encodeRow(row: ControlRow): Buffer {
  const bytes = Buffer.alloc(ROW_BYTES);
  bytes.writeUInt32LE(row.state, 0);
  bytes.writeUInt32LE((row.writable ? FLAG_WRITABLE : 0) | (row.unlink ? FLAG_UNLINK : 0), 4);
  bytes.writeDoubleLE(row.address, 8);
  bytes.writeDoubleLE(row.length, 16);
  bytes.writeDoubleLE(row.offset, 24);
  bytes.writeDoubleLE(row.inode, 32);
  bytes.writeUInt32LE(Buffer.byteLength(row.name), 40);
  bytes.write(row.name, 44, 'utf8');
  return bytes;
}

/** @returns undefined for a row that is free, or that nobody of ours has written */
export function decodeRow(bytes: Buffer, at: number): ControlRow | undefined {
  const state = bytes.readUInt32LE(at);
  if (state !== RowState.owned && state !== RowState.offered) return undefined;
  const flags = bytes.readUInt32LE(at + 4);
  const nameLength = bytes.readUInt32LE(at + 40);
  if (nameLength > ROW_BYTES - 44) return undefined;
  const row = {
    state,
    writable: (flags & FLAG_WRITABLE) !== 0,
    unlink: (flags & FLAG_UNLINK) !== 0,
    address: bytes.readDoubleLE(at + 8),
    length: bytes.readDoubleLE(at + 16),
    offset: bytes.readDoubleLE(at + 24),
    inode: bytes.readDoubleLE(at + 32),
    name: bytes.toString('utf8', at + 44, at + 44 + nameLength),
  };
  const numbers = [row.address, row.length, row.offset, row.inode];
  return numbers.every((value) => Number.isSafeInteger(value) && value >= 0) ? row : undefined;
}
