import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeExtendedAnswer,
  decodeExtendedRequest,
  decodeHello,
  decodeToken,
  encodeExtendedAnswer,
  encodeExtendedRequest,
  encodeHello,
  ExtendedAnswer,
  ExtendedRequest,
  ExtendedStatus,
  type HelloKind,
  isHelloInstance,
} from './extended-frames.ts';
import { decodeSessionHeader, SessionHeader } from './session-header.ts';

interface Vector {
  readonly frame: 'hello' | 'request' | 'answer';
  readonly meaning: Record<string, string | number | boolean>;
  readonly hex: string;
}

const vectors = JSON.parse(
  readFileSync(new URL('../../../../test/vectors/te-x1/frames.json', import.meta.url), 'utf8'),
) as { readonly vectors: readonly Vector[] };

const RUNS = { numRuns: 10_000 };
const write = (bytes: number, encode: (view: DataView) => void): Buffer => {
  const buffer = Buffer.alloc(bytes, 0xee);
  encode(new DataView(buffer.buffer, buffer.byteOffset, bytes));
  return buffer;
};

function encodeVector({ frame, meaning }: Vector): Buffer {
  const number = (name: string) => Number(meaning[name]);
  if (frame === 'hello') {
    return write(48, (view) =>
      encodeHello(view, 0, {
        kind: number('kind') as HelloKind,
        instance: String(meaning['instance']),
        token: Buffer.from(String(meaning['token']), 'hex'),
      }),
    );
  }
  if (frame === 'request') {
    const address = BigInt(String(meaning['address']));
    const checksum = meaning['checksum'] === undefined ? undefined : number('checksum');
    return write(24, (view) =>
      encodeExtendedRequest(
        view,
        0,
        meaning['opcode'] === 'write',
        number('length'),
        Number(address & 0xffff_ffffn),
        Number(address >> 32n),
        number('id'),
        checksum,
      ),
    );
  }
  const value = meaning['value'] === undefined ? undefined : number('value');
  return write(24, (view) =>
    encodeExtendedAnswer(
      view,
      0,
      number('code') as ExtendedStatus,
      number('id'),
      value,
      number('appliedBytes'),
      meaning['inProgress'] === true,
    ),
  );
}

describe('extended frames', () => {
  it.each(vectors.vectors.map((vector) => [vector.frame, JSON.stringify(vector.meaning), vector]))(
    'writes the golden %s %s',
    (_frame, _meaning, vector) => {
      expect(encodeVector(vector).toString('hex')).toBe(vector.hex);
    },
  );

  it('the document shows golden vectors', () => {
    const text = readFileSync(
      new URL('../../../../docs/wire/tcp-extended.md', import.meta.url),
      'utf8',
    );
    const examples = [...text.matchAll(/```\n([^`]*)```/g)].map(([, block = '']) =>
      block
        .split('\n')
        .map((line) => line.slice(0, 23).replaceAll(' ', ''))
        .join(''),
    );
    const golden = vectors.vectors.map(({ hex }) => hex);
    expect(examples.length).toBe(4);
    expect(golden).toEqual(expect.arrayContaining(examples));
  });

  it('a hello is refused by targets that know only the older framings', () => {
    const hello = vectors.vectors.find(({ frame }) => frame === 'hello');
    const header = new SessionHeader();
    decodeSessionHeader(Buffer.from(hello?.hex ?? '', 'hex'), 0, header);
    expect(header).toMatchObject({ length: 0, acknowledged: true, opcode: 0x7e });
  });

  it('reads back what it wrote', () => {
    const word = fc.integer({ min: 0, max: 0xffff_ffff });
    const size = fc.maxSafeNat();
    fc.assert(
      fc.property(word, word, word, word, (a, b, c, d) => {
        const instance = a.toString(16).padStart(8, '0') + b.toString(16).padStart(8, '0');
        const token = Buffer.alloc(16);
        token.writeUInt32LE(c, 0);
        token.writeUInt32LE(d, 12);
        expect(isHelloInstance(instance)).toBe(true);
        const bytes = write(48, (view) => encodeHello(view, 0, { kind: 2, instance, token }));
        expect(decodeHello(bytes, 0)).toEqual({ kind: 2, instance });
        const hex = (value: number) => value.toString(16).padStart(8, '0');
        expect(decodeToken(bytes, 24)).toBe(`${hex(c)}${'0'.repeat(16)}${hex(d)}`);
      }),
      RUNS,
    );
    const request = new ExtendedRequest();
    const checksum = fc.option(word, { nil: undefined });
    fc.assert(
      fc.property(
        fc.boolean(),
        size,
        word,
        word,
        fc.nat(0xffff),
        checksum,
        (isWrite, length, low, high, id, crc) => {
          const bytes = write(24, (view) =>
            encodeExtendedRequest(view, 0, isWrite, length, low, high, id, crc),
          );
          expect(decodeExtendedRequest(bytes, 0, request)).toBe(true);
          expect(request).toMatchObject({
            isWrite,
            length,
            addressLow: low,
            addressHigh: high,
            id,
          });
          expect(request.checked ? request.checksum : undefined).toBe(crc);
          expect(decodeHello(bytes, 0)).toBeUndefined();
        },
      ),
      RUNS,
    );
    const answer = new ExtendedAnswer();
    const code = fc.constantFrom(...Object.values(ExtendedStatus));
    fc.assert(
      fc.property(
        code,
        fc.nat(0xffff),
        checksum,
        size,
        fc.boolean(),
        (status, id, value, appliedBytes, inProgress) => {
          const bytes = write(24, (view) =>
            encodeExtendedAnswer(view, 0, status, id, value, appliedBytes, inProgress),
          );
          expect(decodeExtendedAnswer(bytes, 0, answer)).toBe(true);
          expect(answer).toMatchObject({ code: status, id, appliedBytes, inProgress });
          expect(answer.checked ? answer.value : undefined).toBe(value);
        },
      ),
      RUNS,
    );
  });

  it('takes any bytes without falling over', () => {
    const request = new ExtendedRequest();
    const answer = new ExtendedAnswer();
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 24, maxLength: 24 }), (bytes) => {
        decodeExtendedRequest(bytes, 0, request);
        decodeExtendedAnswer(bytes, 0, answer);
        const hello = decodeHello(bytes, 0);
        if (hello !== undefined) expect(isHelloInstance(hello.instance)).toBe(true);
      }),
      RUNS,
    );
  });
});
