import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ACKNOWLEDGED,
  decodeSessionHeader,
  encodeSessionHeader,
  SESSION_HEADER_BYTES,
  SessionHeader,
} from './session-header.ts';

const RUNS = { numRuns: 10_000 };
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const low = (value: bigint) => Number(value & 0xffff_ffffn);
const high = (value: bigint) => Number(value >> 32n);

function encode(opcode: number, length: number, address: bigint): Buffer {
  const bytes = Buffer.alloc(SESSION_HEADER_BYTES, 0xff);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  encodeSessionHeader(view, 0, opcode, length, low(address), high(address));
  return bytes;
}

function decode(bytes: Uint8Array, at = 0): SessionHeader {
  const header = new SessionHeader();
  decodeSessionHeader(bytes, at, header);
  return header;
}

describe('session header', () => {
  it('writes a v2 WRITE of 4096 bytes as the C++ engine does', () => {
    expect(encode(1 | ACKNOWLEDGED, 4096, 0x7f00_0000_1000n).toString('hex')).toBe(
      '0010000000000000' + '00100000007f0000' + '81' + '00'.repeat(7),
    );
  });

  it.each([
    ['080000000000000000f09301927f00008100000000000000', 1, true, 8, 0x7f920193f000],
    ['200000000000000010303806487f00000100000000000000', 1, false, 32, 0x7f4806383010],
    ['2000000000000000faefd98ae17f00008000000000000000', 0, true, 32, 0x7fe18ad9effa],
  ])('reads what C++ engines sent: %s', (hex, opcode, acknowledged, length, address) => {
    const header = decode(Buffer.from(hex, 'hex'));
    expect(header).toMatchObject({ opcode, acknowledged, length, address });
  });

  it('ignores the padding', () => {
    const bytes = encode(0, 1, 1n);
    bytes.fill(0xcd, 17);
    expect(decode(bytes)).toMatchObject({ opcode: 0, acknowledged: false, length: 1, address: 1 });
  });

  it('gives back every header that it writes', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 255 }),
        fc.oneof(fc.maxSafeNat(), fc.nat(0xffff_ffff)),
        u64,
        (opcode, length, address) => {
          const bytes = encode(opcode, length, address);
          expect(bytes.readBigUInt64LE(0)).toBe(BigInt(length));
          expect(bytes.readBigUInt64LE(8)).toBe(address);
          expect(bytes[16]).toBe(opcode);
          expect(bytes.subarray(17).every((byte) => byte === 0)).toBe(true);
          const header = decode(bytes);
          expect(header.length).toBe(length);
          expect(header.addressLow).toBe(low(address));
          expect(header.addressHigh).toBe(high(address));
          expect(header.opcode).toBe(opcode & 0x7f);
          expect(header.acknowledged).toBe(opcode >= 0x80);
        },
      ),
      RUNS,
    );
  });

  it('reads any bytes, at any place, exactly or as NaN', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 24, maxLength: 60 }), fc.nat(36), (bytes, at) => {
        fc.pre(at + 24 <= bytes.length);
        const header = decode(bytes, at);
        const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
        for (const [value, exact] of [
          [header.length, view.readBigUInt64LE(at)],
          [header.address, view.readBigUInt64LE(at + 8)],
        ] as const) {
          if (exact < 2n ** 53n) expect(value).toBe(Number(exact));
          else expect(value).toBeNaN();
        }
      }),
      RUNS,
    );
  });
});
