import {
  decodeHandshake,
  decodeNotify,
  decodeNotifyReply,
  decodeSegmentDocument,
  emptyHandshake,
  encodeFrame,
  encodeHandshake,
  encodeNotify,
  encodeNotifyReply,
  encodeProbe,
  encodeProbeReply,
  encodeSegmentDocument,
  FrameDecoder,
  FrameType,
  parseNicPath,
  type ControlFrame,
  type HandshakeDocument,
} from '@transfer-engine/core/wire';
import { describe, expect, test } from 'vitest';
import { readRecordings, type RecordedMessage } from './recordings.ts';

interface RecordedFrame {
  readonly title: string;
  readonly from: RecordedMessage['from'];
  readonly bytes: Buffer;
  readonly frame: ControlFrame;
}

/** Every frame that was recorded on a control port; one side sends exactly one a connection. */
const frames: RecordedFrame[] = readRecordings('./te/').flatMap(({ name, connections }) =>
  connections
    .filter(({ listener }) => listener === 'target-rpc')
    .flatMap(({ messages }, index) =>
      messages
        .filter(({ hex }) => hex !== undefined)
        .map(({ from, hex = '' }) => {
          const bytes = Buffer.from(hex, 'hex');
          return { title: `${name} #${index} ${from}`, from, bytes, frame: decodeOne(bytes) };
        }),
    ),
);

function decodeOne(bytes: Buffer): ControlFrame {
  const decoder = new FrameDecoder(1024 * 1024);
  decoder.push(bytes);
  const frame = decoder.next();
  if (frame === undefined || decoder.bufferedBytes > 0) throw new Error('not exactly one frame');
  return frame;
}

const ofType = (type: FrameType): RecordedFrame[] =>
  frames.filter(({ frame }) => frame.type === type);

/** Compared as text, so that a difference can be read. */
function expectBytes(actual: Buffer, expected: Buffer): void {
  expect(actual.toString('latin1')).toBe(expected.toString('latin1'));
  expect(actual.equals(expected)).toBe(true);
}

describe('recorded control frames', () => {
  test('cover all types, both directions', () => {
    const seen = new Set(frames.map(({ frame, from }) => `${frame.type} ${from}`));
    expect([...seen].sort()).toEqual(
      [0, 1, 2, 3].flatMap((type) => [`${type} listener`, `${type} opener`]),
    );
    expect(frames.length).toBeGreaterThan(50);
    expect(frames.some(({ frame }) => frame.legacy)).toBe(false);
  });

  test.each(frames)('$title survives any single cut', ({ bytes, frame }) => {
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      const decoder = new FrameDecoder(bytes.length);
      decoder.push(bytes.subarray(0, cut));
      const early = decoder.next();
      expect(early === undefined).toBe(cut < bytes.length);
      decoder.push(bytes.subarray(cut));
      expect(early ?? decoder.next()).toEqual(frame);
    }
  });

  test.each(ofType(FrameType.metadata))('$title: metadata', ({ bytes, frame }) => {
    const document = decodeSegmentDocument(frame.text);
    const { timestamp = '' } = document;
    expect(timestamp).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}$/);
    const written = encodeSegmentDocument(document, { timestamp });
    expectBytes(encodeFrame(FrameType.metadata, written), bytes);
  });

  test.each(ofType(FrameType.connection))('$title: connection', ({ bytes, frame }) => {
    const document = decodeHandshake(frame.text);
    expectBytes(encodeFrame(FrameType.connection, encodeHandshake(document)), bytes);
  });

  test.each(ofType(FrameType.notify))('$title: notify', ({ bytes, frame, from }) => {
    const written =
      from === 'opener' ? encodeNotify(decodeNotify(frame.text)) : encodeNotifyReply();
    expectBytes(encodeFrame(FrameType.notify, written), bytes);
    if (from === 'listener') expect(decodeNotifyReply(frame.text).accepted).toBe(true);
  });

  test.each(ofType(FrameType.probe))('$title: probe', ({ bytes, from }) => {
    const written = from === 'opener' ? encodeProbe() : encodeProbeReply();
    expectBytes(encodeFrame(FrameType.probe, written), bytes);
  });
});

describe('frames that we build from values', () => {
  const bytesOf = (recording: string, type: FrameType, from: RecordedMessage['from']): Buffer[] =>
    ofType(type)
      .filter(({ title, from: sender }) => title.startsWith(`${recording} #`) && sender === from)
      .map(({ bytes }) => bytes);

  test('a notification', () => {
    const [recorded] = bytesOf('p2p-writenotify', FrameType.notify, 'opener');
    const json = encodeNotify({ name: 'nm', message: 'after write' });
    expectBytes(encodeFrame(FrameType.notify, json), recorded as Buffer);
  });

  test('an RDMA handshake: request, answer, acknowledgement, answer', () => {
    const gid = '00:00:00:00:00:00:00:00:00:00:ff:ff:0a:4d:00:01';
    const request: HandshakeDocument = {
      ...emptyHandshake(),
      localNicPath: '127.0.0.1:16961@rxe0',
      localGid: gid,
      peerNicPath: '127.0.0.1:15302@rxe0',
      queuePairs: [17, 18],
      readyAck: false,
    };
    const answer: HandshakeDocument = {
      ...request,
      localNicPath: request.peerNicPath,
      peerNicPath: request.localNicPath,
      queuePairs: [19, 20],
    };
    const built = (document: HandshakeDocument): Buffer =>
      encodeFrame(FrameType.connection, encodeHandshake(document));
    const opener = bytesOf('rdma-p2p-write-1nic', FrameType.connection, 'opener');
    const listener = bytesOf('rdma-p2p-write-1nic', FrameType.connection, 'listener');
    expect([opener.length, listener.length]).toEqual([2, 2]);
    expectBytes(built(request), opener[0] as Buffer);
    expectBytes(built(answer), listener[0] as Buffer);
    expectBytes(built({ ...request, readyAck: true }), opener[1] as Buffer);
    expectBytes(built(emptyHandshake()), listener[1] as Buffer);
  });

  test('NIC paths name the server and the device', () => {
    const paths = ofType(FrameType.connection)
      .map(({ frame }) => decodeHandshake(frame.text).localNicPath)
      .filter((path) => path !== '');
    expect(paths.length).toBeGreaterThan(0);
    for (const path of paths) {
      expect(parseNicPath(path)).toMatchObject({
        server: expect.stringMatching(/^127\.0\.0\.1:\d+$/) as string,
        device: expect.stringMatching(/^rxe[01]$/) as string,
      });
    }
  });

  test('the segment document of a target', () => {
    const [recorded] = bytesOf('p2p-writenotify', FrameType.metadata, 'listener');
    const name = '127.0.0.1:15953';
    const json = encodeSegmentDocument(
      {
        protocol: 'tcp',
        name,
        tcpDataPort: 16_012,
        tcpProtoVersion: 2,
        buffers: [{ name, address: 140_460_317_245_440n, length: 4096n }],
      },
      { timestamp: '2026-11-20 16:40:35.707030' },
    );
    expectBytes(encodeFrame(FrameType.metadata, json), recorded as Buffer);
  });
});
