import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { EngineError } from '../base/errors.ts';
import { encodeFrame, encodeLegacyFrame, FrameDecoder, FrameType } from './handshake-frame.ts';

const MIB = 1024 * 1024;

function decoderOf(...chunks: Uint8Array[]): FrameDecoder {
  const decoder = new FrameDecoder(MIB);
  for (const chunk of chunks) decoder.push(chunk);
  return decoder;
}

function header(length: bigint, ...rest: number[]): Buffer {
  const bytes = Buffer.alloc(8 + rest.length);
  bytes.writeBigUInt64LE(length);
  bytes.set(rest, 8);
  return bytes;
}

function errorOf(action: () => unknown): EngineError {
  try {
    action();
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(EngineError);
    return thrown as EngineError;
  }
  throw new Error('nothing was thrown');
}

describe('frames', () => {
  test('have a length, a type, the text and a newline', () => {
    const notify = encodeFrame(FrameType.notify, '{"name":"agent1","notify_msg":"hi"}');
    expect(notify.length).toBe(45);
    expect(notify.subarray(0, 9).toString('hex')).toBe('250000000000000002');
    expect(notify.subarray(9).toString()).toBe('{"name":"agent1","notify_msg":"hi"}\n');
    expect(encodeFrame(FrameType.probe, '{}').toString('hex')).toBe('0400000000000000037b7d0a');
    expect(encodeLegacyFrame('{}').toString('hex')).toBe('03000000000000007b7d0a');
  });

  test.each(Object.values(FrameType))('of type %i are read back', (type) => {
    const decoder = decoderOf(encodeFrame(type, '{"é":"日😀"}'));
    expect(decoder.next()).toEqual({ type, legacy: false, text: '{"é":"日😀"}' });
    expect(decoder.next()).toBeUndefined();
    expect(decoder.bufferedBytes).toBe(0);
  });

  test('of the old protocol are connection handshakes', () => {
    const decoder = decoderOf(encodeLegacyFrame('{"qp_num":[]}'));
    expect(decoder.next()).toEqual({ type: 0, legacy: true, text: '{"qp_num":[]}' });
  });

  test('of an unknown type are taken for the old protocol', () => {
    const bytes = encodeFrame(FrameType.probe, '{}');
    bytes[8] = 4;
    expect(decoderOf(bytes).next()).toEqual({ type: 0, legacy: true, text: '\u0004{}' });
  });

  test('of a length whose bytes look like TLS are read', () => {
    const json = JSON.stringify({ payload: 'x'.repeat(790 - 2 - '{"payload":""}'.length) });
    const bytes = encodeFrame(FrameType.connection, json);
    expect(bytes.subarray(0, 2).toString('hex')).toBe('1603');
    expect(decoderOf(bytes).next()?.text).toBe(json);
  });

  test('need no newline, and lose only one', () => {
    const bytes = Buffer.concat([header(4n), Buffer.from('\u0003{}\n')]);
    expect(decoderOf(bytes).next()?.text).toBe('{}');
    expect(decoderOf(header(3n, 3, 0x7b, 0x7d)).next()?.text).toBe('{}');
    expect(decoderOf(header(5n, 3, 0x7b, 0x7d, 0x0a, 0x0a)).next()?.text).toBe('{}\n');
    expect(decoderOf(header(1n, 3)).next()?.text).toBe('');
  });
});

describe('FrameDecoder', () => {
  test('waits for the last byte', () => {
    const bytes = encodeFrame(FrameType.metadata, '{"name":"x"}');
    const decoder = new FrameDecoder(MIB);
    for (let at = 0; at < bytes.length - 1; at += 1) {
      decoder.push(bytes.subarray(at, at + 1));
      expect(decoder.next()).toBeUndefined();
      expect(decoder.bufferedBytes).toBe(at + 1);
    }
    decoder.push(bytes.subarray(-1));
    expect(decoder.next()?.text).toBe('{"name":"x"}');
  });

  test('keeps what follows a frame', () => {
    const decoder = decoderOf(
      Buffer.concat([encodeFrame(FrameType.probe, '{}'), encodeFrame(FrameType.notify, '[]')]),
      Buffer.from([1, 2, 3]),
    );
    expect(decoder.next()?.type).toBe(FrameType.probe);
    expect(decoder.next()?.type).toBe(FrameType.notify);
    expect(decoder.next()).toBeUndefined();
    expect(decoder.bufferedBytes).toBe(3);
  });

  test('copies what it was given', () => {
    const bytes = encodeFrame(FrameType.notify, '{"name":"kept"}');
    const decoder = decoderOf(bytes);
    bytes.fill(0xff);
    expect(decoder.next()?.text).toBe('{"name":"kept"}');
  });

  test('accepts the bound and refuses one more, at the eighth byte', () => {
    const small = new FrameDecoder(4);
    small.push(encodeFrame(FrameType.probe, '{}'));
    expect(small.next()?.text).toBe('{}');
    small.push(header(5n).subarray(0, 7));
    expect(small.next()).toBeUndefined();
    small.push(header(5n).subarray(7));
    const error = errorOf(() => small.next());
    expect(error.code).toBe('ERR_TE_FRAME_TOO_LARGE');
    expect(error.message).toContain('5 bytes');
  });

  test.each([
    ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\n')],
    ['a TLS hello', Buffer.from('16030102000100', 'hex').subarray(0, 7)],
    ['more than 128 MiB', header(128n * 1024n * 1024n + 1n)],
    ['2^63', header(2n ** 63n)],
    ['2^64 - 1', header(2n ** 64n - 1n)],
  ])('refuses %s as too large', (_name, bytes) => {
    const decoder = new FrameDecoder(128 * MIB);
    decoder.push(bytes);
    decoder.push(Buffer.from([0x01]));
    expect(errorOf(() => decoder.next()).code).toBe('ERR_TE_FRAME_TOO_LARGE');
  });

  test.each([
    ['no byte', header(0n)],
    ['a first byte of 0x80', header(3n, 0x80)],
    ['a first byte of 0xff', header(3n, 0xff)],
    ['text that is not UTF-8', header(3n, 2, 0xc3, 0x28)],
    ['UTF-8 that is cut off', header(3n, 2, 0xe6, 0x97)],
    ['UTF-8 of half a pair', header(4n, 2, 0xed, 0xa0, 0x80)],
  ])('refuses %s as a broken protocol', (_name, bytes) => {
    expect(errorOf(() => decoderOf(bytes).next()).code).toBe('ERR_TE_PROTOCOL');
  });

  test('stays broken, and keeps nothing', () => {
    const decoder = decoderOf(header(0n));
    const error = errorOf(() => decoder.next());
    decoder.push(encodeFrame(FrameType.probe, '{}'));
    expect(decoder.bufferedBytes).toBe(0);
    expect(errorOf(() => decoder.next())).toBe(error);
  });

  test('costs what has arrived, not what is announced', () => {
    const before = process.memoryUsage().arrayBuffers;
    const decoders = Array.from({ length: 64 }, () => {
      const decoder = new FrameDecoder(128 * MIB);
      decoder.push(header(128n * 1024n * 1024n, 1));
      expect(decoder.next()).toBeUndefined();
      return decoder;
    });
    const used = process.memoryUsage().arrayBuffers - before;
    expect(decoders.every((decoder) => decoder.bufferedBytes === 9)).toBe(true);
    expect(used).toBeLessThan(4 * MIB);
  });
});
