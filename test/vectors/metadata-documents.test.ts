import {
  decodeRpcMeta,
  decodeSegmentDocument,
  encodeRpcMeta,
  encodeSegmentDocument,
  metadataKeys,
  parseJson64,
  stringifyJson64,
  withNewline,
} from '@transfer-engine/core/wire';
import { describe, expect, test } from 'vitest';
import { readRecordings, readStoredStates } from './recordings.ts';

const keys = metadataKeys();

describe.each(readStoredStates('./te/'))('$path', ({ path, state }) => {
  const { ready } = state;
  // The writers for etcd and redis end a document with a newline, the one for HTTP does not.
  const stored = path.includes('http') ? (json: string) => json : withNewline;

  test('has our keys', () => {
    expect(Object.keys(state.keys ?? {}).sort()).toEqual(
      [keys.segment(ready.segment), keys.rpcMeta(ready.segment)].sort(),
    );
  });

  test('has a segment document that we read and write alike', () => {
    const value = state.keys?.[keys.segment(ready.segment)] as string;
    const document = decodeSegmentDocument(value);
    expect(document).toEqual({
      name: ready.segment,
      protocol: 'tcp',
      tcpDataPort: ready.tcp_data_port,
      tcpProtoVersion: 2,
      timestamp: document.timestamp,
      buffers: ready.buffers.map(({ addr, length }) => ({
        name: ready.segment,
        address: BigInt(addr),
        length: BigInt(length),
      })),
    });
    const { timestamp = '' } = document;
    expect(stored(encodeSegmentDocument(document, { timestamp }))).toBe(value);
  });

  test('has a location that we read and write alike', () => {
    const value = state.keys?.[keys.rpcMeta(ready.segment)] as string;
    expect(decodeRpcMeta(value)).toEqual({ host: '127.0.0.1', rpcPort: ready.rpc_port });
    expect(stored(encodeRpcMeta(decodeRpcMeta(value)))).toBe(value);
  });
});

describe('documents in recorded HTTP traffic', () => {
  const [recording] = readRecordings('./te/').filter(({ name }) => name === 'http-write-notify');
  const bodies = (recording?.connections ?? [])
    .filter(({ listener }) => listener === 'metadata-server')
    .flatMap(({ messages }) => messages)
    .map(({ hex = '' }) => Buffer.from(hex, 'hex').toString('utf8').split('\r\n\r\n')[1] ?? '')
    .filter((body) => body.startsWith('{'));

  test('are all read and written alike', () => {
    expect(bodies.length).toBeGreaterThan(4);
    for (const body of bodies) {
      if (body.includes('rpc_port')) {
        expect(encodeRpcMeta(decodeRpcMeta(body))).toBe(body);
      } else {
        const document = decodeSegmentDocument(body);
        const { timestamp = '' } = document;
        expect(encodeSegmentDocument(document, { timestamp })).toBe(body);
      }
    }
  });
});

describe.each(readStoredStates('./tent/'))('$path', ({ state }) => {
  const { keys: stored = {}, requests = [] } = state;
  const put = requests.filter(({ method }) => method === 'PUT').map(({ body }) => body);
  const documents = [...Object.values(stored), ...put];

  test('is JSON in the same dialect', () => {
    expect(documents.length).toBeGreaterThan(0);
    for (const document of documents) {
      expect(stringifyJson64(parseJson64(document))).toBe(document);
    }
  });
});
