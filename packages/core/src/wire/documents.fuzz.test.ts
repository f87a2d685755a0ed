import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EngineError } from '../base/errors.ts';
import { decodeSegmentDocument } from './decode-segment-document.ts';
import { encodeSegmentDocument } from './encode-segment-document.ts';
import { decodeHandshake, encodeHandshake, type HandshakeDocument } from './handshake-document.ts';
import { parseJson64, stringifyJson64, type Json64 } from './json64.ts';
import { decodeNotify, decodeNotifyReply, encodeNotify } from './notify-document.ts';
import { decodeRpcMeta, encodeRpcMeta } from './rpc-meta-document.ts';
import {
  RDMA_PROTOCOLS,
  SHARED_HANDLE_PROTOCOLS,
  type MultiProtocolBuffer,
  type SegmentDocument,
} from './segment-document.ts';

const RUNS = 10_000;
const timestamp = '2026-08-22 13:12:18.000123';

const unit = fc.constantFrom('a', 'B', '0', ':', '@', ' ', '"', '\\', '/', '\n', 'é', '日', '😀');
const text = fc.string({ unit, maxLength: 6 });
const filled = fc.string({ unit, minLength: 1, maxLength: 6 });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const positive = fc.bigInt({ min: 1n, max: 2n ** 64n - 1n });
const u16 = fc.nat(0xffff);
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });

const memoryFields = { name: filled, address: positive, length: positive };
const matrix = fc.dictionary(text, fc.tuple(fc.array(text, { maxLength: 2 }), fc.array(text)), {
  maxKeys: 3,
  noNullPrototype: true,
});
/** Values that JSON gives back in the type in which it got them. */
const plain = fc.oneof(text, fc.integer(), fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }));
const extras = fc.record({
  version: fc.integer({ min: 1 }),
  instance: text,
  host: text,
  capabilities: fc.array(text, { maxLength: 3 }),
  buffers: fc.array(fc.dictionary(text, plain, { maxKeys: 2, noNullPrototype: true }), {
    maxLength: 2,
  }),
});
const baseFields = {
  name: text,
  tcpDataPort: u16,
  tcpProtoVersion: fc.integer(),
  rdmaServerName: filled,
  extras,
};
const base = fc.record(baseFields, {
  requiredKeys: ['name', 'tcpDataPort', 'tcpProtoVersion'],
  noNullPrototype: true,
});
const few = <T>(item: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(item, { maxLength: 2 });
const record = <T extends Record<string, unknown>>(fields: {
  [K in keyof T]: fc.Arbitrary<T[K]>;
}): fc.Arbitrary<T> => fc.record(fields, { noNullPrototype: true }) as fc.Arbitrary<T>;

const nics = few(record({ name: filled, lid: u16, gid: filled }));

/** A buffer with one key a device, or with none for peers. */
const keyed = (devices: number, max: bigint) => {
  const key = fc.bigInt({ min: 0n, max });
  const keys = fc.array(key, { minLength: devices, maxLength: devices });
  return fc.oneof(
    record({ ...memoryFields, remoteKeys: keys, localKeys: keys }),
    record({ ...memoryFields, remoteKeys: fc.constant<bigint[]>([]), localKeys: few(key) }),
  );
};

const cxlBuffer = record({ name: filled, offset: u64, length: positive });
const handleBuffer = record({ ...memoryFields, sharedName: filled });
const cxlFields = { cxlName: text, cxlBaseAddress: u64 };

const bodies = [
  record({ protocol: fc.constant('tcp' as const), buffers: few(record(memoryFields)) }),
  fc.tuple(fc.constantFrom(...RDMA_PROTOCOLS), nics).chain(([protocol, devices]) =>
    record({
      protocol: fc.constant(protocol),
      devices: fc.constant(devices),
      buffers: few(
        keyed(devices.length, /^(efa|cxi)$/.test(protocol) ? 2n ** 64n - 1n : 2n ** 32n - 1n),
      ),
      priorityMatrix: matrix,
    }),
  ),
  record({
    protocol: fc.constant('ub' as const),
    devices: few(record({ name: filled, eid: filled })),
    buffers: few(record({ ...memoryFields, targetSegments: fc.array(text, { minLength: 1 }) })),
    priorityMatrix: matrix,
  }),
  record({
    protocol: fc.constant('nccl' as const),
    buffers: few(record({ ...memoryFields, deviceId: fc.nat() })),
  }),
  record({
    protocol: fc.constant('ascend' as const),
    devices: few(record({ name: filled, lid: u16 })),
    buffers: few(record({ ...memoryFields, deviceId: fc.integer() })),
    rankInfo: record({
      rankId: u64,
      hostIp: text,
      hostPort: u64,
      deviceLogicId: u64,
      devicePhyId: u64,
      deviceType: u64,
      deviceIp: text,
      devicePort: u64,
      pid: u64,
      endpoints: few(text),
    }),
  }),
  record({
    protocol: fc.constantFrom(...SHARED_HANDLE_PROTOCOLS),
    buffers: few(handleBuffer),
  }),
  record({ protocol: fc.constant('cxl' as const), ...cxlFields, buffers: few(cxlBuffer) }),
  nics.chain((devices) => {
    const tag = <P extends string, T extends object>(protocol: P, body: fc.Arbitrary<T>) =>
      body.map((members) => ({ protocol, ...members }));
    return record({
      protocol: fc.constant('multi' as const),
      protocols: fc.shuffledSubarray(['cxl', 'tcp', 'rdma', 'hip'], { minLength: 4 }),
      devices: fc.constant(devices),
      priorityMatrix: matrix,
      ...cxlFields,
      buffers: few<MultiProtocolBuffer>(
        fc.oneof(
          tag('tcp', record(memoryFields)),
          tag('rdma', keyed(devices.length, 2n ** 32n - 1n)),
          tag('hip', handleBuffer),
          tag('cxl', cxlBuffer),
        ),
      ),
    });
  }),
];

const segment: fc.Arbitrary<SegmentDocument> = fc
  .tuple(base, fc.oneof(...bodies))
  .map(([common, body]) => ({ ...common, ...body }));

const handshake = fc.record(
  {
    payload: text,
    localNicPath: text,
    localLid: u16,
    localGid: text,
    peerNicPath: text,
    queuePairs: few(u32),
    replyMessage: text,
    readyAck: fc.boolean(),
    efaAddress: text,
    cxiAddress: text,
    barexPort: u16,
    jettyNumbers: few(u32),
  },
  {
    requiredKeys: [
      'payload',
      'localNicPath',
      'localLid',
      'localGid',
      'peerNicPath',
      'queuePairs',
      'replyMessage',
    ],
    noNullPrototype: true,
  },
) as fc.Arbitrary<HandshakeDocument>;

const notify = record({ name: text, message: text });
const rpcMeta = record({ host: filled, rpcPort: u16 });

describe('what was written is read back', () => {
  test('segment documents', () => {
    fc.assert(
      fc.property(segment, (document) => {
        const written = encodeSegmentDocument(document, { timestamp });
        const read = decodeSegmentDocument(written);
        expect(read).toEqual({ ...document, timestamp });
        expect(encodeSegmentDocument(read, { timestamp })).toBe(written);
      }),
      { numRuns: RUNS },
    );
  });

  test('connection handshakes', () => {
    fc.assert(
      fc.property(handshake, (document) => {
        expect(decodeHandshake(encodeHandshake(document))).toEqual(document);
      }),
      { numRuns: RUNS },
    );
  });

  test('notifications and rpc_meta documents', () => {
    fc.assert(
      fc.property(notify, rpcMeta, (notification, location) => {
        expect(decodeNotify(encodeNotify(notification))).toEqual(notification);
        expect(decodeRpcMeta(encodeRpcMeta(location))).toEqual(location);
      }),
      { numRuns: RUNS },
    );
  });
});

const decoders: readonly ((input: Json64) => unknown)[] = [
  decodeSegmentDocument,
  decodeHandshake,
  decodeNotify,
  decodeNotifyReply,
  decodeRpcMeta,
];

/** Lets every decoder read it; no other failure than the typed one is accepted. */
function decodeByAll(input: Json64): void {
  for (const decode of decoders) {
    try {
      decode(input);
    } catch (thrown) {
      expect(thrown).toBeInstanceOf(EngineError);
    }
  }
}

const odd = fc.oneof(
  fc.constantFrom<Json64[]>(null, true, -1, 0.5, 2 ** 53, 1e300, 2n ** 64n - 1n, -(2n ** 63n), ''),
  fc.constantFrom<Json64[]>([], {}, [[]], [null], [{}], { a: 1 }, 'tcp', 'rdma', ['tcp', 'rdma']),
  text,
);

/** Every place of a JSON value where something else can be put. */
function placesOf(root: Json64): { holder: Json64[] | Record<string, Json64>; key: string }[] {
  const places: ReturnType<typeof placesOf> = [];
  const open: Json64[] = [root];
  for (let value = open.pop(); value !== undefined; value = open.pop()) {
    if (typeof value !== 'object' || value === null) continue;
    const holder = value as Record<string, Json64>;
    for (const key of Object.keys(holder)) {
      places.push({ holder, key });
      open.push(holder[key] as Json64);
    }
  }
  return places;
}

const written = fc.oneof(
  segment.map((document) => encodeSegmentDocument(document, { timestamp })),
  handshake.map(encodeHandshake),
  notify.map(encodeNotify),
  rpcMeta.map(encodeRpcMeta),
);

describe('decoders end in a document or in a typed error', () => {
  test('for documents with one wrong member', () => {
    fc.assert(
      fc.property(written, fc.nat(), odd, fc.boolean(), (document, at, value, remove) => {
        const root = parseJson64(document);
        const places = placesOf(root);
        const place = places[at % places.length];
        if (place === undefined) return;
        if (remove && !Array.isArray(place.holder)) delete place.holder[place.key];
        else (place.holder as Record<string, Json64>)[place.key] = value;
        decodeByAll(root);
        decodeByAll(stringifyJson64(root));
      }),
      { numRuns: RUNS },
    );
  });

  test('for any JSON', () => {
    fc.assert(
      fc.property(fc.json(), (input) => {
        decodeByAll(input);
      }),
      { numRuns: RUNS },
    );
  });

  test('for text that was cut or mixed up', () => {
    fc.assert(
      fc.property(written, fc.nat(), fc.nat(4), text, (document, at, cut, added) => {
        const from = at % (document.length + 1);
        decodeByAll(document.slice(0, from) + added + document.slice(from + cut));
      }),
      { numRuns: RUNS },
    );
  });
});
