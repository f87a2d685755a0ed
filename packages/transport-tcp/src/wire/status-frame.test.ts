import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeStatusFrame,
  encodeStatusFrame,
  STATUS_FRAME_BYTES,
  STATUS_MAGIC,
  STATUS_MALFORMED,
  StatusCode,
} from './status-frame.ts';

const RUNS = { numRuns: 10_000 };

function encode(code: number): Buffer {
  const bytes = Buffer.alloc(STATUS_FRAME_BYTES);
  encodeStatusFrame(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, code);
  return bytes;
}

describe('status frame', () => {
  it.each([
    [StatusCode.ok, '000000005654434d'],
    [StatusCode.addressRejected, '010000005654434d'],
  ])('code %i is %s on the wire', (code, hex) => {
    expect(encode(code).toString('hex')).toBe(hex);
    expect(decodeStatusFrame(Buffer.from(hex, 'hex'), 0)).toBe(code);
  });

  it('gives back every code', () => {
    fc.assert(
      fc.property(fc.nat(0xffff_ffff), (code) => {
        expect(decodeStatusFrame(encode(code), 0)).toBe(code);
      }),
      RUNS,
    );
  });

  it('takes nothing for a frame that lacks the magic', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 40 }), fc.nat(32), (bytes, at) => {
        fc.pre(at + 8 <= bytes.length);
        const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
        const expected =
          view.readUInt32LE(at + 4) === STATUS_MAGIC ? view.readUInt32LE(at) : STATUS_MALFORMED;
        expect(decodeStatusFrame(bytes, at)).toBe(expected);
      }),
      RUNS,
    );
  });
});
