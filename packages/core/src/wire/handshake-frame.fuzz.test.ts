import { Buffer } from 'node:buffer';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EngineError } from '../base/errors.ts';
import {
  encodeFrame,
  encodeLegacyFrame,
  FrameDecoder,
  FrameType,
  type ControlFrame,
} from './handshake-frame.ts';

const RUNS = 10_000;
const MAX_BYTES = 4096;

const text = fc.string({ unit: 'grapheme', maxLength: 40 }).map((body) => `{${body}`);
const frame: fc.Arbitrary<ControlFrame> = fc.oneof(
  fc.record({
    type: fc.constantFrom(...Object.values(FrameType)),
    legacy: fc.constant(false),
    text,
  }),
  fc.record({ type: fc.constant(FrameType.connection), legacy: fc.constant(true), text }),
);
const cuts = fc.array(fc.integer({ min: 0, max: 64 }), { maxLength: 20 });

const encode = ({ type, legacy, text: json }: ControlFrame): Buffer =>
  legacy ? encodeLegacyFrame(json) : encodeFrame(type, json);

const GUARD = Buffer.alloc(8, 0xee);

/** Cuts bytes into chunks; each lies between bytes that must not be written. */
function* chunksOf(bytes: Uint8Array, sizes: readonly number[]): Generator<Uint8Array> {
  let at = 0;
  for (let turn = 0; at < bytes.length; turn += 1) {
    const size = sizes.length === 0 ? bytes.length : (sizes[turn % sizes.length] as number);
    const part = bytes.subarray(at, at + Math.max(size, turn % 2));
    const guarded = Buffer.concat([GUARD, part, GUARD]);
    yield guarded.subarray(GUARD.length, GUARD.length + part.length);
    if (GUARD.compare(guarded, 0, 8) !== 0 || GUARD.compare(guarded, 8 + part.length) !== 0) {
      throw new Error('bytes beside the chunk were written');
    }
    at += part.length;
  }
}

/** All frames of a stream, and the code of the error that ended it. */
function decodeAll(bytes: Uint8Array, sizes: readonly number[]): (ControlFrame | string)[] {
  const decoder = new FrameDecoder(MAX_BYTES);
  const results: (ControlFrame | string)[] = [];
  for (const chunk of chunksOf(bytes, sizes)) {
    decoder.push(chunk);
    try {
      for (let next = decoder.next(); next !== undefined; next = decoder.next()) results.push(next);
    } catch (thrown) {
      expect(thrown).toBeInstanceOf(EngineError);
      return [...results, (thrown as EngineError).code];
    }
    if (decoder.bufferedBytes >= 8 + MAX_BYTES) throw new Error('more waits than a frame');
  }
  return results;
}

test('frames survive any split of their stream', () => {
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 6 }), cuts, (frames, sizes) => {
      expect(decodeAll(Buffer.concat(frames.map(encode)), sizes)).toEqual(frames);
    }),
    { numRuns: RUNS },
  );
});

test('any bytes end in frames or in a typed error, the same for any split', () => {
  const length = fc.oneof(
    fc.nat(40),
    fc.nat(MAX_BYTES + 1),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  );
  const piece = fc.tuple(length, fc.uint8Array({ maxLength: 24 })).map(([announced, body]) => {
    const bytes = Buffer.alloc(8 + body.length);
    bytes.writeBigUInt64LE(BigInt(announced));
    bytes.set(body, 8);
    return bytes;
  });
  const stream = fc.array(fc.oneof(frame.map(encode), piece), { maxLength: 6 });
  fc.assert(
    fc.property(stream, cuts, (pieces, sizes) => {
      const bytes = Buffer.concat(pieces);
      expect(decodeAll(bytes, sizes)).toEqual(decodeAll(bytes, []));
    }),
    { numRuns: RUNS },
  );
});

test('a frame that lost its end never comes out', () => {
  fc.assert(
    fc.property(frame, fc.nat(), cuts, (whole, at, sizes) => {
      const bytes = encode(whole);
      expect(decodeAll(bytes.subarray(0, at % bytes.length), sizes)).toEqual([]);
    }),
    { numRuns: RUNS },
  );
});

test('frames that wait untaken are all kept', () => {
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 12 }), cuts, fc.nat(7), (frames, sizes, every) => {
      const decoder = new FrameDecoder(MAX_BYTES);
      const results: ControlFrame[] = [];
      let turn = 0;
      for (const chunk of chunksOf(Buffer.concat(frames.map(encode)), sizes)) {
        decoder.push(chunk);
        turn += 1;
        const next = turn % (every + 1) === 0 ? decoder.next() : undefined;
        if (next !== undefined) results.push(next);
      }
      for (let next = decoder.next(); next !== undefined; next = decoder.next()) results.push(next);
      expect(results).toEqual(frames);
      expect(decoder.bufferedBytes).toBe(0);
    }),
    { numRuns: RUNS },
  );
});
