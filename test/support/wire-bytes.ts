/**
 * The wire in the plainest terms, on purpose without the product's codecs: what they get wrong must
 * not be hidden by the test that looks at it.
 */

const LENGTH_BYTES = 8;
export const HEADER_BYTES = 24;
export const STATUS_BYTES = 8;

export interface ControlFrame {
  readonly type: number;
  readonly text: string;
}

/** Splits one whole frame, and fails when the length does not say exactly how long it is. */
export function parseControlFrame(bytes: Buffer): ControlFrame {
  const length = Number(bytes.readBigUInt64LE(0));
  if (length !== bytes.length - LENGTH_BYTES) {
    throw new Error(`the frame says ${length} bytes and has ${bytes.length - LENGTH_BYTES}`);
  }
  return { type: bytes[LENGTH_BYTES] as number, text: bytes.toString('utf8', LENGTH_BYTES + 1) };
}

export function buildControlFrame({ type, text }: ControlFrame): Buffer {
  const payload = Buffer.from(text, 'utf8');
  const head = Buffer.alloc(LENGTH_BYTES + 1);
  head.writeBigUInt64LE(BigInt(payload.length + 1), 0);
  head[LENGTH_BYTES] = type;
  return Buffer.concat([head, payload]);
}

/** Bytes of the frame at the start of `bytes`; undefined while they are not all there. */
export function controlFrameSize(bytes: Buffer): number | undefined {
  if (bytes.length < LENGTH_BYTES) return undefined;
  const size = LENGTH_BYTES + Number(bytes.readBigUInt64LE(0));
  return bytes.length < size ? undefined : size;
}

export interface DataHeader {
  readonly length: bigint;
  readonly address: bigint;
  /** The whole byte, version bit included. */
  readonly opcode: number;
}

export function parseDataHeader(bytes: Buffer): DataHeader {
  return {
    length: bytes.readBigUInt64LE(0),
    address: bytes.readBigUInt64LE(8),
    opcode: bytes[16] as number,
  };
}

export function buildDataHeader({ length, address, opcode }: DataHeader): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.writeBigUInt64LE(length, 0);
  bytes.writeBigUInt64LE(address, 8);
  bytes[16] = opcode;
  return bytes;
}

export const isWrite = (opcode: number) => (opcode & 0x7f) === 1;

/** The request with zeros where the C++ struct has padding of undefined content. */
export function withoutPadding(request: Buffer): Buffer {
  const copy = Buffer.from(request);
  copy.fill(0, 17, HEADER_BYTES);
  return copy;
}

/** The request with another remote address. */
export function withAddress(request: Buffer, address: bigint): Buffer {
  const copy = Buffer.from(request);
  copy.writeBigUInt64LE(address, 8);
  return copy;
}

/** What is different between two runs of the same exchange. */
export interface RunFacts {
  /** The segment's own name, also found as the name of its buffers. */
  readonly name: string;
  /** Addresses in the order of the buffers. */
  readonly addresses: readonly bigint[];
  readonly tcpDataPort: number;
  readonly timestamp: string;
}

const TIMESTAMP = /"timestamp":"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6})"/;

/** The timestamp of a segment document; fails when its format is not the one of the wire. */
export function timestampOf(text: string): string {
  const found = TIMESTAMP.exec(text)?.[1];
  if (found === undefined) throw new Error(`no timestamp in ${text}`);
  return found;
}

export function factsOf(text: string): RunFacts {
  const document = JSON.parse(text) as { name: string; tcp_data_port: number };
  return {
    name: document.name,
    addresses: [...text.matchAll(/"addr":(\d+)/g)].map(([, digits]) => BigInt(digits as string)),
    tcpDataPort: document.tcp_data_port,
    timestamp: timestampOf(text),
  };
}

/**
 * The recorded document as this run should have written it. Works on the text, so that order of
 * members, spaces and the line's end stay what they were recorded to be.
 */
export function rewriteDocument(recorded: string, facts: RunFacts): string {
  const before = factsOf(recorded);
  if (before.addresses.length !== facts.addresses.length) {
    throw new Error(`recorded with ${before.addresses.length} buffers`);
  }
  let buffer = 0;
  return recorded
    .replaceAll(`"name":"${before.name}"`, `"name":"${facts.name}"`)
    .replaceAll(/"addr":\d+/g, () => `"addr":${facts.addresses[buffer++]}`)
    .replace(`"tcp_data_port":${before.tcpDataPort}`, `"tcp_data_port":${facts.tcpDataPort}`)
    .replace(TIMESTAMP, `"timestamp":"${facts.timestamp}"`);
}

/** The same for a whole control frame. */
export function rewriteDocumentFrame(recorded: Buffer, facts: RunFacts): Buffer {
  const { type, text } = parseControlFrame(recorded);
  return buildControlFrame({ type, text: rewriteDocument(text, facts) });
}

/** Bytes in a form whose differences can be read. */
export function readable(bytes: Buffer): string {
  const text = bytes.length > 4096 ? bytes.subarray(0, 4096) : bytes;
  const shown = text
    .toString('latin1')
    .replaceAll(/[^\x20-\x7e]/g, (character) => `\\x${hexByte(character.charCodeAt(0))}`);
  return `${bytes.length} bytes: ${shown}`;
}

const hexByte = (value: number) => value.toString(16).padStart(2, '0');
