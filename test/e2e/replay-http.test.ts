import { createEngine, type Engine } from '@transfer-engine/core';
import { createMetadataServer, openStore } from '@transfer-engine/metadata';
import { tcp } from '@transfer-engine/transport-tcp';
import { describe, expect, it } from 'vitest';
import { cleanupAfterEach } from '../support/cleanup.ts';
import { recordedMetadataExchanges, type MetadataRequest } from '../support/http-messages.ts';
import { patternBytes, WRITE_SEED } from '../support/patterns.ts';
import { RecordingMetadataServer } from '../support/recording-metadata-server.ts';
import { ScriptedControlPort, ScriptedDataPort } from '../support/scripted-listener.ts';
import {
  bytesOf,
  connectionsTo,
  loadRecorded,
  loadVector,
  operationOf,
  type RecordedConnection,
} from '../support/vectors.ts';
import {
  factsOf,
  readable,
  rewriteDocument,
  timestampOf,
  withoutPadding,
} from '../support/wire-bytes.ts';

const VECTOR = 'http-write-notify';
const INITIATOR = 'ini-http-write-notify';
const TARGET = 'wire-http-write-notify';

/** Requests of the C++ engine that ours does not make, with the reason. */
const LEFT_OUT = [
  {
    method: 'GET',
    key: `mooncake/ram/${INITIATOR}`,
    reason:
      'C++ asks for a document of its own that a crashed predecessor may have left, and goes on ' +
      'publishing the dead buffers in it; ours always starts from an empty document',
  },
];

const cleanup = cleanupAfterEach();

interface MetadataRecording {
  readonly ready: { readonly name: string };
  readonly keys: Readonly<Record<string, string>>;
  readonly keys_after_clean_exit: Readonly<Record<string, string>>;
}

describe('our initiator with an HTTP store', () => {
  it('asks and stores what the recorded one did', async () => {
    const vector = loadVector(VECTOR);
    const recorded = recordedMetadataExchanges(vector);
    const answered = (key: string) =>
      recorded.find(({ request }) => request.key === key && request.method === 'GET')?.answer.body;
    const server = await startRecordingServer();
    const [dataConnection] = connectionsTo(vector, 'target-data');
    const [notifyConnection] = connectionsTo(vector, 'target-rpc');
    const data = new ScriptedDataPort(() => ({
      bytes: bytesOf(dataConnection as RecordedConnection, 'listener'),
      ends: false,
    }));
    await data.listen();
    cleanup(() => data.close());
    const control = new ScriptedControlPort(() =>
      bytesOf(notifyConnection as RecordedConnection, 'listener'),
    );
    await control.listen();
    cleanup(() => control.close());
    const targetDocument = answered(`mooncake/ram/${TARGET}`) ?? '';
    const facts = { ...factsOf(targetDocument), tcpDataPort: data.port };
    server.documents.set(`mooncake/ram/${TARGET}`, rewriteDocument(targetDocument, facts));
    server.documents.set(
      `mooncake/rpc_meta/${TARGET}`,
      rewriteRpcMeta(answered(`mooncake/rpc_meta/${TARGET}`) ?? '', control.port),
    );

    const engine = await startEngine(INITIATOR, server.url);
    const region = await engine.registerMemory(Buffer.alloc(4096));
    const { address } = region;
    const segment = await engine.openSegment(TARGET);
    const { offset = 0, length = 0 } = operationOf(vector);
    patternBytes(length, WRITE_SEED, offset).copy(region.bytes, offset);
    const remoteAddress = (segment.buffers[0]?.address ?? 0n) + BigInt(offset);
    await engine.write({ segment, local: region, localOffset: offset, remoteAddress, length });
    await engine.notify(segment, { name: 'peer', message: 'hello from c++' });
    await region.unregister();
    const { tcpDataPort } = engine.localSegment;
    await engine.close();

    const wanted = recorded
      .map(({ request }) => request)
      .filter(({ method, key }) => !LEFT_OUT.some((o) => o.method === method && o.key === key));
    expect(wanted).toHaveLength(recorded.length - LEFT_OUT.length);
    expect(server.requests.map(lineOf)).toEqual(
      wanted
        .map((request, index) => {
          const sent = server.requests[index]?.body ?? '';
          if (request.method !== 'PUT') return request;
          if (request.key.includes('rpc_meta')) {
            return { ...request, body: rewriteRpcMeta(request.body, engine.address.rpcPort) };
          }
          const addresses = factsOf(request.body).addresses.map(() => address);
          const timestamp = timestampOf(sent);
          const own = { name: INITIATOR, addresses, tcpDataPort, timestamp };
          return { ...request, body: rewriteDocument(request.body, own) };
        })
        .map(lineOf),
    );
    const plain = (request: Buffer) => readable(withoutPadding(request));
    expect(data.requests.map(plain)).toEqual([
      plain(bytesOf(dataConnection as RecordedConnection, 'opener')),
    ]);
    expect(control.requests.map(readable)).toEqual([
      readable(bytesOf(notifyConnection as RecordedConnection, 'opener')),
    ]);
    expect([...data.failures, ...control.failures]).toEqual([]);
  });
});

describe('our target with an HTTP store', () => {
  const recordings = loadRecorded<Record<string, MetadataRecording>>('metadata-http');

  it.each(Object.keys(recordings))('stores what the recorded one did, with %s', async (which) => {
    const { ready, keys, keys_after_clean_exit: gone } = recordings[which] as MetadataRecording;
    const server = await startRecordingServer();
    const engine = await startEngine(ready.name, server.url);
    const recordedSegment = keys[`mooncake/ram/${ready.name}`] ?? '';
    const { addresses: recordedAddresses } = factsOf(recordedSegment);
    const regions = [];
    for (let index = 0; index < recordedAddresses.length; index += 1) {
      regions.push(await engine.registerMemory(Buffer.alloc(4096)));
    }
    const stored = server.documents.get(`mooncake/ram/${ready.name}`) ?? '';
    const wanted = {
      [`mooncake/ram/${ready.name}`]: rewriteDocument(recordedSegment, {
        name: ready.name,
        addresses: regions.map(({ address }) => address),
        tcpDataPort: engine.localSegment.tcpDataPort,
        timestamp: timestampOf(stored),
      }),
      [`mooncake/rpc_meta/${ready.name}`]: rewriteRpcMeta(
        keys[`mooncake/rpc_meta/${ready.name}`] ?? '',
        engine.address.rpcPort,
      ),
    };
    expect(Object.fromEntries(server.documents)).toEqual(wanted);
    // One PUT for the place, one for the empty segment, and one for each registration.
    expect(server.requests.map(({ method, key }) => `${method} ${key}`)).toEqual([
      `PUT mooncake/rpc_meta/${ready.name}`,
      `PUT mooncake/ram/${ready.name}`,
      ...regions.map(() => `PUT mooncake/ram/${ready.name}`),
    ]);
    await engine.close();
    expect(Object.keys(gone).sort()).toEqual(Object.keys(wanted).sort());
    expect([...server.documents.keys()]).toEqual([]);
  });
});

describe('our metadata server', () => {
  it('answers the recorded requests with the recorded statuses and documents', async () => {
    const server = await createMetadataServer({ port: 0 });
    cleanup(() => server.close());
    const exchanges = recordedMetadataExchanges(loadVector(VECTOR));
    for (const { request, answer } of exchanges) {
      if (request.key.endsWith(TARGET)) await put(server.url, request.key, answer.body);
    }
    for (const { request, answer } of exchanges) {
      const response = await ask(server.url, request);
      expect(`${lineOf(request)} -> ${response.status}`).toBe(
        `${lineOf(request)} -> ${answer.status}`,
      );
      const body = await response.text();
      if (request.method === 'GET' && answer.status === 200) expect(body).toBe(answer.body);
    }
  });
});

async function startRecordingServer(): Promise<RecordingMetadataServer> {
  const server = new RecordingMetadataServer();
  await server.listen();
  cleanup(() => server.close());
  return server;
}

async function startEngine(name: string, url: string): Promise<Engine> {
  const engine = await createEngine({
    metadata: await openStore(url),
    name,
    host: '127.0.0.1',
    transports: [tcp()],
    strict: true,
    environment: {},
  });
  cleanup(() => engine.close());
  return engine;
}

function rewriteRpcMeta(recorded: string, rpcPort: number): string {
  return recorded.replace(/"rpc_port":\d+/, `"rpc_port":${rpcPort}`);
}

const lineOf = ({ method, key, body }: MetadataRequest) => `${method} ${key} ${body}`;

/** The recorded way to write a key: everything but letters, digits and -._~ is escaped. */
function ask(url: string, { method, key, body }: MetadataRequest): Promise<Response> {
  return fetch(`${url}?key=${encodeURIComponent(key)}`, {
    method,
    ...(method === 'PUT' ? { body, headers: { 'content-type': 'application/json' } } : {}),
  });
}

async function put(url: string, key: string, body: string): Promise<void> {
  expect((await ask(url, { method: 'PUT', key, body })).status).toBe(200);
}
