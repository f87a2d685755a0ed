import { describe, expect, test } from 'vitest';
import { EngineError } from '../base/errors.ts';
import { decodeSegmentDocument } from './decode-segment-document.ts';
import { encodeSegmentDocument, formatTimestamp } from './encode-segment-document.ts';
import { parseJson64, type Json64 } from './json64.ts';
import type {
  AscendDocument,
  MultiProtocolDocument,
  RdmaDocument,
  SegmentDocument,
  TcpDocument,
} from './segment-document.ts';

const timestamp = '2026-08-22 13:12:18.000123';
const GID = '00:00:00:00:00:00:00:00:00:00:ff:ff:0a:00:00:07';
const base = { name: '10.0.0.7:12345', tcpDataPort: 0, tcpProtoVersion: 1 } as const;
const memory = { name: 'cpu:0', address: 0x7f00_0000_1000n, length: 4096n } as const;

const tcp: TcpDocument = {
  ...base,
  protocol: 'tcp',
  tcpDataPort: 15_433,
  tcpProtoVersion: 2,
  buffers: [{ name: base.name, address: 140_737_351_000_064n, length: 4096n }],
};

const rdma: RdmaDocument = {
  ...base,
  protocol: 'rdma',
  devices: [
    { name: 'mlx5_0', lid: 0, gid: GID },
    { name: 'mlx5_1', lid: 7, gid: GID },
  ],
  buffers: [{ ...memory, remoteKeys: [8192n, 9216n], localKeys: [8192n, 9217n] }],
  priorityMatrix: { 'cpu:0': [['mlx5_0'], ['mlx5_1']], 'cpu:1': [['mlx5_1'], []] },
};

const ascend: AscendDocument = {
  ...base,
  protocol: 'ascend',
  devices: [{ name: 'npu0', lid: 3 }],
  buffers: [{ ...memory, deviceId: -1 }],
  rankInfo: {
    rankId: 1n,
    hostIp: '10.0.0.7',
    hostPort: 10_000n,
    deviceLogicId: 2n,
    devicePhyId: 3n,
    deviceType: 4n,
    deviceIp: '10.1.0.7',
    devicePort: 16_666n,
    pid: 2n ** 63n,
    endpoints: ['a', 'b'],
  },
};

const multi: MultiProtocolDocument = {
  ...base,
  protocol: 'multi',
  protocols: ['tcp', 'rdma', 'hip', 'cxl'],
  devices: rdma.devices,
  priorityMatrix: rdma.priorityMatrix,
  cxlName: '/dev/dax0.0',
  cxlBaseAddress: 2n ** 64n - 1n,
  buffers: [
    { ...memory, protocol: 'tcp' },
    { ...memory, protocol: 'rdma', remoteKeys: [1n, 2n], localKeys: [3n, 4n] },
    { ...memory, protocol: 'hip', sharedName: 'AB01' },
    { name: 'dax', protocol: 'cxl', offset: 0n, length: 1n },
  ],
};

/** One document of every kind that can be written. */
const documents: [string, SegmentDocument][] = [
  ['tcp', tcp],
  ['tcp without buffers', { ...tcp, buffers: [] }],
  ['rdma', rdma],
  ['rdma without a topology', { ...rdma, priorityMatrix: {} }],
  ['rdma beside TCP', { ...rdma, tcpDataPort: 15_001, tcpProtoVersion: 2 }],
  ['dual-NIC rdma', { ...rdma, rdmaServerName: '10.9.0.7:12345' }],
  ['barex', { ...rdma, protocol: 'barex', devices: [] }],
  [
    'efa',
    {
      ...rdma,
      protocol: 'efa',
      devices: [{ name: 'rdmap0s6', lid: 0, gid: 'fe80' }],
      buffers: [{ ...memory, remoteKeys: [2n ** 64n - 1n], localKeys: [2n ** 53n + 1n] }],
    },
  ],
  ['cxi', { ...rdma, protocol: 'cxi' }],
  [
    'ub',
    {
      ...base,
      protocol: 'ub',
      devices: [{ name: 'ub0', eid: '0001' }],
      buffers: [{ ...memory, targetSegments: ['0a', '0b'] }],
      priorityMatrix: { '*': [['ub0'], []] },
    },
  ],
  ['nccl', { ...base, protocol: 'nccl', buffers: [{ ...memory, deviceId: 0 }] }],
  ['ascend', ascend],
  ...(['nvlink', 'nvlink_intra', 'hip', 'maca', 'musa', 'ubshmem', 'sunrise_link'] as const).map(
    (protocol): [string, SegmentDocument] => [
      protocol,
      { ...base, protocol, buffers: [{ ...memory, sharedName: '0011AABB' }] },
    ],
  ),
  [
    'cxl',
    {
      ...base,
      protocol: 'cxl',
      cxlName: '/dev/dax0.0',
      cxlBaseAddress: 2n ** 60n + 1n,
      buffers: [{ name: 'dax', offset: 0n, length: 2n ** 40n }],
    },
  ],
  ['several protocols', multi],
];

function errorOf(action: () => unknown): EngineError {
  try {
    action();
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(EngineError);
    return thrown as EngineError;
  }
  throw new Error('nothing was thrown');
}

/** The document, read back from what was written of it, as JSON to change. */
function written(document: SegmentDocument): Record<string, Json64> {
  return parseJson64(encodeSegmentDocument(document, { timestamp })) as Record<string, Json64>;
}

describe('encode and decode', () => {
  test.each(documents)('%s', (_name, document) => {
    const text = encodeSegmentDocument(document, { timestamp });
    expect(decodeSegmentDocument(text)).toEqual({ ...document, timestamp });
  });

  test('tcp as it is stored', () => {
    expect(encodeSegmentDocument(tcp, { timestamp })).toBe(
      '{"buffers":[{"addr":140737351000064,"length":4096,"name":"10.0.0.7:12345"}],' +
        '"name":"10.0.0.7:12345","protocol":"tcp","tcp_data_port":15433,"tcp_proto_version":2,' +
        '"timestamp":"2026-08-22 13:12:18.000123"}',
    );
  });

  test('an empty topology as null, the members of rdma in their places', () => {
    const text = encodeSegmentDocument(
      { ...rdma, devices: [], buffers: [{ ...memory, remoteKeys: [], localKeys: [5n] }] },
      { timestamp },
    );
    expect(text).toContain('"buffers":[{"addr":139637976731648,"length":4096,"lkey":[5],');
    expect(text).toContain('"name":"cpu:0","rkey":[]}],"devices":[],"name":"10.0.0.7:12345"');
    const bare = encodeSegmentDocument({ ...rdma, priorityMatrix: {} }, { timestamp });
    expect(bare).toContain('"priority_matrix":null');
  });

  test('extras in one member that others skip', () => {
    const extras = {
      version: 1,
      instance: '0123',
      host: 'boot',
      capabilities: ['abort'],
      buffers: [{ shm: '/te-1', size: 2n ** 60n }, {}],
    };
    const text = encodeSegmentDocument({ ...tcp, extras }, { timestamp });
    expect(text).toContain(
      '"x_te":{"buffers":[{"shm":"/te-1","size":1152921504606846976},{}],' +
        '"caps":["abort"],"host":"boot","instance":"0123","v":1}}',
    );
    expect(decodeSegmentDocument(text).extras).toEqual(extras);
  });
});

describe('decodeSegmentDocument', () => {
  const decode = (document: SegmentDocument, changes: object): SegmentDocument =>
    decodeSegmentDocument({ ...written(document), ...(changes as Record<string, Json64>) });

  test('skips members that it does not know', () => {
    const changes = { future: { deep: [1] }, buffers: [{ name: 'a', addr: 1, length: 2, x: {} }] };
    expect(decode(tcp, changes)).toEqual({
      ...tcp,
      timestamp,
      buffers: [{ name: 'a', address: 1n, length: 2n }],
    });
  });

  test('fills in what old peers leave out', () => {
    expect(decodeSegmentDocument('{"protocol":"tcp","name":"a"}')).toEqual({
      name: 'a',
      protocol: 'tcp',
      tcpDataPort: 0,
      tcpProtoVersion: 1,
      buffers: [],
    });
  });

  test('converts as C++ does', () => {
    const decoded = decode(tcp, { name: 5, tcp_data_port: 15_001.0, tcp_proto_version: 3 });
    expect(decoded).toMatchObject({ name: '5', tcpDataPort: 15_001, tcpProtoVersion: 3 });
    expect(decodeSegmentDocument('{"protocol":"tcp","tcp_data_port":-0.5}').tcpDataPort).toBe(0);
    expect(decodeSegmentDocument('{"protocol":"tcp","tcp_data_port":true}').tcpDataPort).toBe(1);
  });

  test.each<[string, SegmentDocument, object]>([
    ['protocol', tcp, { protocol: 'quic' }],
    ['protocol', tcp, { protocol: null }],
    ['protocol', tcp, { protocol: {} }],
    ['protocol', tcp, { protocol: ['quic', 'sctp'] }],
    ['protocol[1]', tcp, { protocol: ['tcp', []] }],
    ['name', tcp, { name: [] }],
    ['timestamp', tcp, { timestamp: {} }],
    ['rdma_server_name', tcp, { rdma_server_name: [1] }],
    ['tcp_data_port', tcp, { tcp_data_port: '15001' }],
    ['tcp_data_port', tcp, { tcp_data_port: -1 }],
    ['tcp_data_port', tcp, { tcp_data_port: 65_536 }],
    ['tcp_data_port', tcp, { tcp_data_port: 2n ** 64n - 1n }],
    ['tcp_proto_version', tcp, { tcp_proto_version: 'x' }],
    ['tcp_proto_version', tcp, { tcp_proto_version: 2 ** 31 }],
    ['buffers', tcp, { buffers: 5 }],
    ['buffers', tcp, { buffers: {} }],
    ['buffers[0]', tcp, { buffers: [5] }],
    ['buffers[0].name', tcp, { buffers: [null] }],
    ['buffers[0].name', tcp, { buffers: [{ name: '', addr: 1, length: 1 }] }],
    ['buffers[0].addr', tcp, { buffers: [{ name: 'a', addr: 0, length: 1 }] }],
    ['buffers[0].addr', tcp, { buffers: [{ name: 'a', addr: -1, length: 1 }] }],
    ['buffers[0].addr', tcp, { buffers: [{ name: 'a', addr: '0x1', length: 1 }] }],
    ['buffers[0].addr', tcp, { buffers: [{ name: 'a', addr: 2 ** 64, length: 1 }] }],
    ['buffers[1].length', tcp, { buffers: [memoryJson(), { name: 'a', addr: 1, length: 0 }] }],
    ['buffers[0].length', tcp, { buffers: [{ name: 'a', addr: 1 }] }],
    ['devices[0].name', rdma, { devices: [{ name: '', gid: GID, lid: 0 }] }],
    ['devices[0].gid', rdma, { devices: [{ name: 'mlx5_0', gid: '', lid: 0 }] }],
    ['devices[0].lid', rdma, { devices: [{ name: 'mlx5_0', gid: GID, lid: 65_536 }] }],
    ['buffers[0].rkey', rdma, { buffers: [{ ...memoryJson(), rkey: [1], lkey: [1] }] }],
    ['buffers[0].rkey', rdma, { buffers: [{ ...memoryJson(), rkey: [1, 2, 3], lkey: [1, 2, 3] }] }],
    ['buffers[0].rkey', rdma, { buffers: [{ ...memoryJson(), rkey: [1, 2], lkey: [1] }] }],
    ['buffers[0].rkey[1]', rdma, { buffers: [{ ...memoryJson(), rkey: [1, '2'], lkey: [1, 2] }] }],
    ['buffers[0].rkey', rdma, { protocol: 'barex', buffers: [{ ...memoryJson(), rkey: [1] }] }],
    [
      'buffers[0].device_id',
      tcp,
      { protocol: 'nccl', buffers: [{ ...memoryJson(), device_id: -1 }] },
    ],
    ['buffers[0].tseg', tcp, { protocol: 'ub', buffers: [memoryJson()] }],
    ['devices[0].eid', tcp, { protocol: 'ub', devices: [{ name: 'ub0' }] }],
    ['rank_info', ascend, { rank_info: [] }],
    ['rank_info.pid', ascend, { rank_info: { pid: 'x' } }],
    ['buffers[0].length', tcp, { protocol: 'cxl', buffers: [{ name: 'a', offset: 1 }] }],
    ['cxl_base_addr', tcp, { protocol: 'cxl', cxl_base_addr: -1 }],
    ['buffers[0].local_path_map.a', tcp, nvmeof({ local_path_map: { a: [] } })],
    ['buffers[0].local_path_map', tcp, nvmeof({ local_path_map: [] })],
    ['buffers[1].rkey', multi, { buffers: [tcpJson(), { ...rdmaJson(), rkey: [1] }] }],
    ['buffers[0].protocol', multi, { buffers: [{ ...memoryJson(), protocol: {} }] }],
  ])('rejects a document for its %s', (member, document, changes) => {
    const error = errorOf(() => decode(document, changes));
    expect(error.code).toBe('ERR_TE_METADATA');
    expect(error.details.member).toBe(member);
    expect(error.message).toContain(`member "${member}"`);
  });

  test.each(['[]', '5', '"text"', 'true'])('rejects the root %s', (text) => {
    const error = errorOf(() => decodeSegmentDocument(text));
    expect(error.code).toBe('ERR_TE_METADATA');
    expect(error.message).toContain('the root');
  });

  test('says that a peer offers nothing when its answer is null', () => {
    const error = errorOf(() => decodeSegmentDocument('null\n'));
    expect(error.code).toBe('ERR_TE_METADATA');
    expect(error.message).toContain('offers no segment');
  });

  test('says where text is no JSON', () => {
    expect(errorOf(() => decodeSegmentDocument('{"name":')).code).toBe('ERR_TE_MALFORMED_JSON');
  });

  test('accepts buffers that only their owner uses, and one key a device', () => {
    const local = { ...memory, remoteKeys: [], localKeys: [1n, 2n] };
    const shared = { ...memory, remoteKeys: [1n, 2n], localKeys: [1n, 2n] };
    const document = { ...rdma, timestamp, buffers: [local, shared] };
    expect(decodeSegmentDocument(written(document))).toEqual(document);
  });

  test('reads keys of 64 bits whatever the protocol', () => {
    const key = 2n ** 64n - 1n;
    const buffers = [{ ...memoryJson(), rkey: [key, 1], lkey: [1, key] }];
    expect(decode(rdma, { buffers })).toMatchObject({
      buffers: [{ remoteKeys: [key, 1n], localKeys: [1n, key] }],
    });
  });

  test('skips buffers without a handle, even broken ones', () => {
    const buffers = [{ ...memoryJson(), shm_name: '' }, { shm_name: null }, handleJson()];
    const [, document] = documents.find(([name]) => name === 'hip') as [string, SegmentDocument];
    expect(decode(document, { buffers })).toEqual({ ...document, timestamp });
  });

  test.each([5, [], { 'cpu:0': [['a']] }, { 'cpu:0': [['a'], [], []] }, { '*': [['a'], [1]] }])(
    'only warns of the topology %j',
    (matrix) => {
      const warnings: string[] = [];
      const document = decodeSegmentDocument(
        { ...written(rdma), priority_matrix: matrix as Json64 },
        { onWarning: (problem) => warnings.push(problem) },
      );
      expect(document).toEqual({ ...rdma, timestamp, priorityMatrix: {} });
      expect(warnings).toHaveLength(1);
      expect(warnings[0]).toContain('priority_matrix');
    },
  );

  test('takes null for an empty topology', () => {
    const warnings: string[] = [];
    const input = { ...written(rdma), priority_matrix: null };
    const options = { onWarning: (problem: string) => warnings.push(problem) };
    expect(decodeSegmentDocument(input, options)).toMatchObject({ priorityMatrix: {} });
    expect(warnings).toEqual([]);
  });

  test('reads a list of one protocol as that protocol', () => {
    expect(decode(tcp, { protocol: ['tcp'] })).toEqual({ ...tcp, timestamp });
  });

  test('skips buffers of protocols that it does not know', () => {
    const buffers = [{ protocol: 'warp' }, { name: 'none' }, tcpJson()];
    expect(decode(multi, { protocol: ['tcp', 'warp'], buffers })).toEqual({
      ...base,
      timestamp,
      protocol: 'multi',
      protocols: ['tcp', 'warp'],
      devices: [],
      priorityMatrix: {},
      buffers: [{ ...memory, protocol: 'tcp' }],
    });
  });

  test('reads what the nvmeof scripts write', () => {
    const text =
      '{"server_name":"nvmeof/file1","protocol":"nvmeof","buffers":[{"length":1073741824,' +
      '"file_path":"/dev/nvme0","local_path_map":{"node1":"/mnt/a","__proto__":"/mnt/b"}}]}';
    const document = decodeSegmentDocument(text);
    expect(document).toMatchObject({ name: 'nvmeof/file1', protocol: 'nvmeof' });
    const [buffer] = document.protocol === 'nvmeof' ? document.buffers : [];
    expect(buffer).toMatchObject({ filePath: '/dev/nvme0', length: 2n ** 30n });
    expect(Object.entries(buffer?.localPaths ?? {})).toEqual([
      ['node1', '/mnt/a'],
      ['__proto__', '/mnt/b'],
    ]);
  });

  const extras = { v: 1, instance: 'i', host: 'h', caps: ['c'], buffers: [{ a: 1 }] };

  test.each([
    null,
    5,
    'text',
    [],
    {},
    { ...extras, v: 0 },
    { ...extras, v: 1.5 },
    { ...extras, v: '1' },
    { ...extras, v: 2n ** 60n },
    { ...extras, instance: 1 },
    { ...extras, host: null },
    { ...extras, caps: 'c' },
    { ...extras, caps: [1] },
    { ...extras, buffers: {} },
    { ...extras, buffers: [[]] },
  ])('skips malformed extras', (x_te) => {
    expect(decode(tcp, { x_te })).toEqual({ ...tcp, timestamp });
  });

  test('keeps extras of later versions', () => {
    expect(decode(tcp, { x_te: { ...extras, v: 2, more: true } }).extras?.version).toBe(2);
  });
});

describe('encodeSegmentDocument', () => {
  const [buffer] = rdma.buffers as [RdmaDocument['buffers'][number]];

  test.each<[string, SegmentDocument]>([
    ['tcpDataPort', { ...tcp, tcpDataPort: 65_536 }],
    ['tcpDataPort', { ...tcp, tcpDataPort: 1.5 }],
    ['tcpDataPort', { ...tcp, tcpDataPort: Number.NaN }],
    ['tcpProtoVersion', { ...tcp, tcpProtoVersion: 2 ** 31 }],
    ['buffers[0].name', { ...tcp, buffers: [{ ...memory, name: '' }] }],
    ['buffers[0].address', { ...tcp, buffers: [{ ...memory, address: 0n }] }],
    ['buffers[0].address', { ...tcp, buffers: [{ ...memory, address: 2n ** 64n }] }],
    ['buffers[1].length', { ...tcp, buffers: [memory, { ...memory, length: 0n }] }],
    ['buffers[0].length', { ...tcp, buffers: [{ ...memory, length: -1n }] }],
    ['devices[1].gid', { ...rdma, devices: [rdma.devices[0]!, { name: 'x', lid: 0, gid: '' }] }],
    ['devices[0].lid', { ...rdma, devices: [{ name: 'x', lid: 65_536, gid: GID }] }],
    ['buffers[0].remoteKeys', { ...rdma, buffers: [{ ...buffer, remoteKeys: [1n] }] }],
    ['buffers[0].remoteKeys', { ...rdma, devices: [] }],
    [
      'buffers[0].remoteKeys[1]',
      { ...rdma, buffers: [{ ...buffer, remoteKeys: [1n, 2n ** 32n] }] },
    ],
    ['buffers[0].localKeys[0]', { ...rdma, buffers: [{ ...buffer, localKeys: [-1n, 1n] }] }],
    ['buffers[0].deviceId', { ...base, protocol: 'nccl', buffers: [{ ...memory, deviceId: -1 }] }],
    [
      'buffers[0].sharedName',
      { ...base, protocol: 'hip', buffers: [{ ...memory, sharedName: '' }] },
    ],
    ['protocols', { ...multi, protocols: ['tcp'] }],
    ['protocols', { ...multi, protocols: ['tcp', 'nvlink'] }],
    ['buffers[1].protocol', { ...multi, protocols: ['tcp', 'cxl'] }],
    ['extras.version', { ...tcp, extras: { ...noExtras(), version: 0 } }],
    ['value["name"]', { ...tcp, name: 'a\ud800' }],
  ])('refuses what no reader accepts: %s', (argument, document) => {
    const error = errorOf(() => encodeSegmentDocument(document, { timestamp }));
    expect(error.code).toBe('ERR_TE_INVALID_ARGUMENT');
    expect(error.details.argument).toBe(argument);
  });

  test.each<[string, Record<string, unknown>]>([
    ['name', { name: 5 }],
    ['tcpDataPort', { tcpDataPort: '15001' }],
    ['buffers[0].address', { buffers: [{ ...memory, address: 4096 }] }],
    ['protocol', { protocol: 'quic' }],
  ])('refuses values whose type would end a C++ reader: %s', (argument, changes) => {
    const document = { ...tcp, ...changes } as unknown as SegmentDocument;
    const error = errorOf(() => encodeSegmentDocument(document, { timestamp }));
    expect(error.details.argument).toBe(argument);
  });

  test('writes no nvmeof document', () => {
    const document: SegmentDocument = { ...base, protocol: 'nvmeof', buffers: [] };
    expect(errorOf(() => encodeSegmentDocument(document, { timestamp })).code).toBe(
      'ERR_TE_METADATA',
    );
  });
});

test('formatTimestamp writes local time with six digits behind the second', () => {
  expect(formatTimestamp(new Date(2026, 0, 2, 3, 4, 5, 6))).toBe('2026-01-02 03:04:05.006000');
  expect(formatTimestamp(new Date(2026, 11, 31, 23, 59, 59, 999))).toBe(
    '2026-12-31 23:59:59.999000',
  );
});

function memoryJson(): Record<string, Json64> {
  return { name: 'cpu:0', addr: 0x7f00_0000_1000, length: 4096 };
}

const handleJson = (): Record<string, Json64> => ({ ...memoryJson(), shm_name: '0011AABB' });
const tcpJson = (): Record<string, Json64> => ({ ...memoryJson(), protocol: 'tcp' });

function rdmaJson(): Record<string, Json64> {
  return { ...memoryJson(), protocol: 'rdma', rkey: [1, 2], lkey: [3, 4] };
}

function nvmeof(buffer: Record<string, Json64>): Record<string, Json64> {
  return { protocol: 'nvmeof', buffers: [{ file_path: 'f', length: 1, ...buffer }] };
}

function noExtras(): NonNullable<SegmentDocument['extras']> {
  return { version: 1, instance: '', host: '', capabilities: [], buffers: [] };
}
