import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { toSegmentDescriptor, toSegmentDocument } from '../metadata/descriptor-mapping.ts';
import type { SegmentDraft } from '../segment/segment-descriptor.ts';
import { decodeSegmentDocument } from '../wire/decode-segment-document.ts';
import { encodeSegmentDocument } from '../wire/encode-segment-document.ts';
import { decodeHandshake } from '../wire/handshake-document.ts';
import { FrameDecoder, FrameType, type ControlFrame } from '../wire/handshake-frame.ts';
import { decodeNotify } from '../wire/notify-document.ts';
import { ControlClient } from './control-client.ts';
import { createControlHandler } from './control-handlers.ts';
import { ControlServer } from './control-server.ts';
import type { NotifyDocument } from '../wire/index.ts';
import { NotifyInbox } from './notify-inbox.ts';
import { ReceivedIds } from './received-ids.ts';

interface Recording {
  readonly connections?: readonly {
    readonly listener: string;
    readonly messages: readonly { readonly from: string; readonly hex?: string }[];
  }[];
}

interface RecordedExchange {
  readonly name: string;
  readonly request: Buffer;
  readonly reply: Buffer;
}

const folder = new URL('../../../../test/vectors/te/', import.meta.url);

const EXCHANGES: readonly RecordedExchange[] = readdirSync(folder).flatMap((file) => {
  const recording = JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as Recording;
  const control = (recording.connections ?? []).filter(({ listener }) => listener === 'target-rpc');
  return control.map(({ messages }, index) => ({
    name: `${file}, connection ${index}`,
    request: bytesOf(messages, 'opener'),
    reply: bytesOf(messages, 'listener'),
  }));
});

function bytesOf(messages: readonly { from: string; hex?: string }[], from: string): Buffer {
  const own = messages.filter((message) => message.from === from);
  return Buffer.concat(own.map(({ hex = '' }) => Buffer.from(hex, 'hex')));
}

function frameOf(bytes: Buffer): ControlFrame {
  const decoder = new FrameDecoder(1024 * 1024);
  decoder.push(bytes);
  const frame = decoder.next();
  if (frame === undefined) throw new Error('no whole frame was recorded');
  return frame;
}

/** The same document, through the types of this engine and back, as an engine would write it. */
function rewritten(text: string): string {
  const descriptor = toSegmentDescriptor(decodeSegmentDocument(text));
  const draft: SegmentDraft = {
    ...descriptor,
    protocols: [...descriptor.protocols],
    devices: [...descriptor.devices],
    priorityMatrix: { ...descriptor.priorityMatrix },
    capabilities: [],
    buffers: descriptor.buffers.map((buffer, regionId) => ({
      ...buffer,
      regionId,
      remoteKeys: [...buffer.remoteKeys],
      localKeys: [...buffer.localKeys],
      extras: {},
    })),
  };
  const { name } = descriptor;
  const identity = { instance: '', host: '' };
  const document = toSegmentDocument(draft, { name, identity, strict: true });
  if (document === undefined) throw new Error('the document has no protocol');
  const { timestamp = '' } = decodeSegmentDocument(text);
  return encodeSegmentDocument(document, { timestamp });
}

describe('recorded exchanges with C++ engines', () => {
  it('are there in every kind', () => {
    const kinds = new Set(EXCHANGES.map(({ request }) => frameOf(request).type));
    expect(kinds).toEqual(new Set(Object.values(FrameType)));
  });

  it.each(EXCHANGES)('$name: our target answers as the C++ one', async ({ request, reply }) => {
    const recorded = frameOf(reply);
    const inbox = new NotifyInbox<NotifyDocument>({ items: 10, characters: 10_000 });
    const server = new ControlServer({
      bindHost: '127.0.0.1',
      handle: createControlHandler({
        ownDocument: () => rewritten(recorded.text),
        inbox,
        received: new ReceivedIds(),
        acceptHandshake: () => decodeHandshake(recorded.text),
      }),
    });
    const socket = connect({ port: await server.listen(), host: '127.0.0.1', allowHalfOpen: true });
    const received: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => received.push(chunk));
    socket.write(request);
    // The target ends its side first, and waits for ours.
    await once(socket, 'end');
    expect(Buffer.concat(received).toString('latin1')).toBe(reply.toString('latin1'));
    expect(server.stats()).toMatchObject({ connections: 1, rejected: 0 });
    if (recorded.type === FrameType.notify)
      expect(inbox.take()).toEqual([decodeNotify(frameOf(request).text)]);
    socket.end();
    await server.close();
  });

  it.each(EXCHANGES)('$name: our initiator asks as the C++ one', async ({ request, reply }) => {
    const chunks: Buffer[] = [];
    const peer = createServer((socket) => {
      socket.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        if (Buffer.concat(chunks).length === request.length) socket.end(reply);
      });
    }).listen(0, '127.0.0.1');
    await once(peer, 'listening');
    const { port } = peer.address() as AddressInfo;
    const client = new ControlClient();
    const { type, text } = frameOf(request);
    const recorded = frameOf(reply).text;
    switch (type) {
      case FrameType.metadata:
        expect(await client.fetchSegment('127.0.0.1', port, rewritten(text))).toEqual(
          toSegmentDescriptor(decodeSegmentDocument(recorded)),
        );
        break;
      case FrameType.notify:
        await client.notify('127.0.0.1', port, decodeNotify(text));
        break;
      case FrameType.probe:
        await client.probe('127.0.0.1', port);
        break;
      case FrameType.connection:
        expect(await client.handshake('127.0.0.1', port, decodeHandshake(text))).toEqual(
          decodeHandshake(recorded),
        );
    }
    expect(Buffer.concat(chunks).toString('latin1')).toBe(request.toString('latin1'));
    peer.close();
    await once(peer, 'close');
  });
});
