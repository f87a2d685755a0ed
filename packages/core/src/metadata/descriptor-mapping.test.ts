import { describe, expect, it } from 'vitest';
import type { BufferDraft, SegmentDraft } from '../segment/segment-descriptor.ts';
import { decodeSegmentDocument } from '../wire/decode-segment-document.ts';
import { encodeSegmentDocument } from '../wire/encode-segment-document.ts';
import { parseJson64 } from '../wire/json64.ts';
import { toSegmentDescriptor, toSegmentDocument } from './descriptor-mapping.ts';
import { OwnDocument } from './own-document.ts';

const identity = { instance: 'instance-1', host: 'host-1' };
const timestamp = '2026-01-02 03:04:05.000006';

function buffer(overrides: Partial<BufferDraft> = {}): BufferDraft {
  return {
    regionId: 0,
    name: 'cpu:0',
    address: 0x7f00_0000_1000n,
    length: 4_096,
    remoteKeys: [],
    localKeys: [],
    extras: {},
    ...overrides,
  };
}

function draftOf(overrides: Partial<SegmentDraft> = {}): SegmentDraft {
  return {
    protocols: ['tcp'],
    tcpDataPort: 15_433,
    tcpProtoVersion: 2,
    devices: [],
    priorityMatrix: {},
    capabilities: ['abort'],
    buffers: [buffer()],
    ...overrides,
  };
}

function jsonOf(draft: SegmentDraft, strict = false): string {
  const document = toSegmentDocument(draft, { name: '10.0.0.7:12345', identity, strict });
  if (document === undefined) throw new Error('no document');
  return encodeSegmentDocument(document, { timestamp });
}

const descriptorOf = (json: string) => toSegmentDescriptor(decodeSegmentDocument(json));

describe('documents of drafts', () => {
  it('in strict form are those of the C++ engine', () => {
    const address = 140_737_351_000_064n;
    expect(jsonOf(draftOf({ buffers: [buffer({ address })] }), true)).toBe(
      '{"buffers":[{"addr":140737351000064,"length":4096,"name":"10.0.0.7:12345"}],' +
        '"name":"10.0.0.7:12345","protocol":"tcp","tcp_data_port":15433,' +
        `"tcp_proto_version":2,"timestamp":"${timestamp}"}`,
    );
  });

  it('carry in x_te what only our engines understand, and bring it back', () => {
    const draft = draftOf({
      buffers: [buffer(), buffer({ address: 0x1000n, extras: { permission: 'global-read-only' } })],
    });
    const json = jsonOf(draft);
    expect(parseJson64(json)).toMatchObject({
      protocol: 'tcp',
      x_te: {
        v: 1,
        instance: 'instance-1',
        host: 'host-1',
        caps: ['abort'],
        buffers: [{}, { permission: 'global-read-only' }],
      },
    });
    const descriptor = descriptorOf(json);
    expect(descriptor.extras).toEqual({ version: 1, ...identity, capabilities: ['abort'] });
    expect(descriptor.buffers).toEqual([
      {
        name: '10.0.0.7:12345',
        address: 0x7f00_0000_1000n,
        length: 4_096,
        remoteKeys: [],
        localKeys: [],
      },
      {
        name: '10.0.0.7:12345',
        address: 0x1000n,
        length: 4_096,
        remoteKeys: [],
        localKeys: [],
        extras: { permission: 'global-read-only' },
      },
    ]);
    expect(parseJson64(jsonOf(draftOf()))).toMatchObject({ x_te: { buffers: [] } });
  });

  it('are absent while no transport has described itself', () => {
    expect(toSegmentDocument(draftOf({ protocols: [] }), { name: 'n', identity })).toBeUndefined();
  });

  it('have one protocol that every reader knows', () => {
    const protocolOf = (protocols: string[]) =>
      toSegmentDocument(draftOf({ protocols, buffers: [] }), { name: 'n', identity })?.protocol;
    expect(protocolOf(['tcp', 'shm'])).toBe('tcp');
    expect(protocolOf(['memory'])).toBe('tcp');
    expect(protocolOf(['tcp', 'rdma'])).toBe('rdma');
    expect(protocolOf(['efa', 'tcp'])).toBe('efa');
  });

  it('of verbs keep devices, keys and the true TCP port', () => {
    const draft = draftOf({
      protocols: ['tcp', 'rdma'],
      devices: [{ name: 'mlx5_0', lid: 1, gid: '00:01' }],
      priorityMatrix: { 'cpu:0': [['mlx5_0'], []] },
      rdmaServerName: '10.1.0.7:12345',
      buffers: [buffer({ remoteKeys: [8_192n], localKeys: [9_216n] })],
    });
    const descriptor = descriptorOf(jsonOf(draft));
    expect(descriptor).toMatchObject({
      name: '10.0.0.7:12345',
      protocols: ['rdma'],
      tcpDataPort: 15_433,
      tcpProtoVersion: 2,
      rdmaServerName: '10.1.0.7:12345',
      devices: draft.devices,
      priorityMatrix: draft.priorityMatrix,
    });
    expect(descriptor.buffers).toEqual([
      {
        name: 'cpu:0',
        address: 0x7f00_0000_1000n,
        length: 4_096,
        remoteKeys: [8_192n],
        localKeys: [9_216n],
      },
    ]);
  });
});

describe('descriptors of documents', () => {
  it('of C++ have their defaults', () => {
    const json =
      '{"buffers":[{"addr":4096,"length":1,"name":"a"}],"name":"a","protocol":"tcp",' +
      '"tcp_data_port":1}';
    expect(descriptorOf(json)).toEqual({
      name: 'a',
      protocols: ['tcp'],
      tcpDataPort: 1,
      tcpProtoVersion: 1,
      buffers: [{ name: 'a', address: 4_096n, length: 1, remoteKeys: [], localKeys: [] }],
      devices: [],
      priorityMatrix: {},
    });
  });

  it('do not give extras of some buffers to others', () => {
    const json =
      '{"buffers":[{"addr":1,"length":1,"name":"a"},{"addr":2,"length":1,"name":"a"}],"name":"a",' +
      '"protocol":"tcp","x_te":{"v":1,"instance":"i","host":"h","caps":[],"buffers":[{"k":1}]}}';
    expect(descriptorOf(json).buffers.map(({ extras }) => extras)).toEqual([undefined, undefined]);
  });

  it('refuse a buffer whose length is no safe integer', () => {
    const json = (length: string) =>
      `{"buffers":[{"addr":1,"length":${length},"name":"a"}],"name":"a","protocol":"tcp"}`;
    expect(descriptorOf(json('9007199254740991')).buffers[0]?.length).toBe(Number.MAX_SAFE_INTEGER);
    expect(() => descriptorOf(json('9007199254740992'))).toThrow(/ERR_TE_METADATA.*buffer 0/);
  });

  it.each([
    [
      '{"name":"n","protocol":"nvlink","buffers":[{"name":"cuda:0","addr":5,"length":6,"shm_name":"AB"}]}',
      { name: 'cuda:0', address: 5n, length: 6, sharedName: 'AB' },
    ],
    [
      '{"name":"n","protocol":"cxl","cxl_name":"c","cxl_base_addr":9,"buffers":[{"name":"x","offset":7,"length":8}]}',
      { name: 'x', address: 7n, length: 8 },
    ],
    [
      '{"server_name":"n","protocol":"nvmeof","buffers":[{"file_path":"/f","length":8,"local_path_map":{}}]}',
      { name: '/f', address: 0n, length: 8 },
    ],
    [
      '{"name":"n","protocol":["tcp","hip"],"buffers":[{"name":"x","addr":7,"length":8,"protocol":"hip","shm_name":"CD"}]}',
      { name: 'x', address: 7n, sharedName: 'CD' },
    ],
  ])('keep what other protocols offer: %s', (json, expected) => {
    expect(descriptorOf(json).buffers).toMatchObject([expected]);
  });

  it('list all protocols of a multi-protocol document, and devices of ub and ascend', () => {
    const multi = '{"name":"n","protocol":["tcp","hip"],"buffers":[]}';
    expect(descriptorOf(multi).protocols).toEqual(['tcp', 'hip']);
    const ub = '{"name":"n","protocol":"ub","devices":[{"name":"d","eid":"e"}],"buffers":[]}';
    expect(descriptorOf(ub).devices).toEqual([{ name: 'd', lid: 0, gid: 'e' }]);
  });
});

describe('OwnDocument', () => {
  it('has a fresh timestamp each time and is encoded once for a publication', () => {
    let nowMs = Date.UTC(2026, 0, 1);
    let drafts = 0;
    const document = new OwnDocument({ identity, now: () => new Date(nowMs) });
    expect(document.text()).toBeUndefined();
    const name = 'a "timestamp":"0000-00-00 00:00:00.000000" b';
    document.publish(() => {
      drafts += 1;
      return draftOf();
    }, name);
    const first = document.text() ?? '';
    nowMs += 1_001;
    const second = document.text() ?? '';
    expect(drafts).toBe(1);
    expect(first).not.toBe(second);
    const [before, after] = [first, second].map((text) => decodeSegmentDocument(text));
    expect(before?.name).toBe(name);
    expect(before?.timestamp).toMatch(/\.000000$/);
    expect(after?.timestamp).toMatch(/:01\.001000$/);
    expect({ ...after, timestamp: '' }).toEqual({ ...before, timestamp: '' });
    document.publish(draftOf({ tcpDataPort: 7 }), 'n');
    expect(decodeSegmentDocument(document.text() ?? '').tcpDataPort).toBe(7);
    document.withdraw();
    expect(document.text()).toBeUndefined();
  });

  it('offers nothing while no transport has described itself', () => {
    const document = new OwnDocument({ identity, strict: true });
    document.publish(draftOf({ protocols: [] }), 'n');
    expect(document.text()).toBeUndefined();
  });
});
