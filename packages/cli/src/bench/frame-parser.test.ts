import fc from 'fast-check';
import { expect, it } from 'vitest';
import { FrameParser } from './frame-parser.ts';

const HEADER = 8;
const LARGE = 128 * 1024;

/** Frames of payloads of the given sizes, each byte told by its place. */
function frames(sizes: readonly number[]): { stream: Buffer; payloads: Buffer[] } {
  const payloads = sizes.map((size, index) => Buffer.alloc(size, index + 1));
  const stream = Buffer.concat(
    payloads.flatMap((payload) => {
      const header = Buffer.alloc(HEADER);
      header.writeUInt32LE(payload.length, 0);
      return [header, payload];
    }),
  );
  return { stream, payloads };
}

function parserOf() {
  const got: Buffer[] = [];
  let current: Buffer | undefined;
  let complete = 0;
  const parser = new FrameParser(HEADER, {
    header(chunk, at) {
      const size = chunk.readUInt32LE(at);
      current = Buffer.alloc(size);
      got.push(current);
      return size === 0 ? undefined : current;
    },
    frame: () => void (complete += 1),
  });
  return { parser, got, complete: () => complete };
}

const sizes = fc.array(
  fc.oneof(fc.nat(40), fc.nat(9_000), fc.constantFrom(LARGE - 1, LARGE, 300_000)),
  {
    maxLength: 8,
  },
);

it('finds frames in chunks of any size', () => {
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 70_000 }), (given, step) => {
      const { stream, payloads } = frames(given);
      const { parser, got, complete } = parserOf();
      for (let at = 0; at < stream.length; at += step) parser.feed(stream.subarray(at, at + step));
      expect(complete()).toBe(given.length);
      expect(got.every((bytes, index) => bytes.equals(payloads[index] ?? Buffer.alloc(0)))).toBe(
        true,
      );
    }),
    { numRuns: 200 },
  );
});

it('finds frames when the socket reads into the buffers that it is given', () => {
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 200_000 }), (given, most) => {
      const { stream, payloads } = frames(given);
      const { parser, got, complete } = parserOf();
      for (let at = 0; at < stream.length;) {
        const target = parser.buffer();
        const count = Math.min(target.length, most, stream.length - at);
        stream.copy(target, 0, at, at + count);
        parser.received(count);
        at += count;
      }
      expect(complete()).toBe(given.length);
      expect(got.every((bytes, index) => bytes.equals(payloads[index] ?? Buffer.alloc(0)))).toBe(
        true,
      );
    }),
    { numRuns: 200 },
  );
});

it('reads large payloads into their place', () => {
  const { parser } = parserOf();
  const header = Buffer.alloc(HEADER);
  header.writeUInt32LE(2 << 20, 0);
  parser.feed(header);
  expect(parser.buffer().length).toBe(1 << 20);
});
