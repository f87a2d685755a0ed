import type { EngineError } from '../base/errors.ts';
import { isObject, MemberReader } from './json-members.ts';
import type { Json64, JsonObject } from './json-value.ts';
import {
  keysAgree,
  memberOf,
  MULTI_PROTOCOLS,
  RDMA_PROTOCOLS,
  SHARED_HANDLE_PROTOCOLS,
  type CxlBuffer,
  type DeviceBuffer,
  type DocumentExtras,
  type DocumentPriorityMatrix,
  type KeyedBuffer,
  type MemoryBuffer,
  type MultiProtocolBuffer,
  type NicEntry,
  type RdmaProtocol,
  type SegmentDocument,
  type SegmentDocumentBase,
  type SharedHandleBuffer,
  type SharedHandleProtocol,
} from './segment-document.ts';

export interface DecodeSegmentOptions {
  /** Told what is wrong but no reason to reject the document. */
  readonly onWarning?: (problem: string) => void;
}

const PORT_MAX = 65_535;
const U16_MAX = 0xffff;
const I32_MIN = -0x8000_0000;
const I32_MAX = 0x7fff_ffff;

/**
 * Reads a segment document of any protocol, in its single or its multi-protocol form.
 *
 * The rules are those of the C++ readers: unknown members are skipped, an unusable buffer or device
 * rejects the whole document, a bad `priority_matrix` is only a warning. Where a C++ reader would
 * end its process over a wrong type, the document is rejected. A malformed `x_te` is skipped.
 *
 * @param input JSON text, or what was parsed from it.
 * @throws EngineError `ERR_TE_MALFORMED_JSON`, or `ERR_TE_METADATA` naming the member.
 * @remarks Source: Mooncake 3b5a594, src/transfer_metadata.cpp (decodeSegmentDesc,
 *   decodeMultiProtocolSegmentDesc).
 */
export function decodeSegmentDocument(
  input: Json64,
  options: DecodeSegmentOptions = {},
): SegmentDocument {
  const members = MemberReader.root(input, 'segment document', 'ERR_TE_METADATA');
  const protocols = Array.isArray(members.raw('protocol'))
    ? members.strings('protocol')
    : [members.string('protocol')];
  const base = decodeBase(members);
  const [protocol = ''] = protocols;
  return protocols.length > 1
    ? decodeMulti(members, base, protocols, options)
    : decodeSingle(members, base, protocol, options);
}

function decodeBase(members: MemberReader): SegmentDocumentBase {
  const rdmaServerName = members.string('rdma_server_name');
  const extras = decodeExtras(members.raw('x_te'));
  return {
    name: members.string('name'),
    tcpDataPort: members.integer('tcp_data_port', 0, PORT_MAX),
    tcpProtoVersion: members.integer('tcp_proto_version', I32_MIN, I32_MAX, 1),
    ...(rdmaServerName !== '' && { rdmaServerName }),
    ...(members.has('timestamp') && { timestamp: members.string('timestamp') }),
    ...(extras !== undefined && { extras }),
  };
}

function decodeSingle(
  members: MemberReader,
  base: SegmentDocumentBase,
  protocol: string,
  options: DecodeSegmentOptions,
): SegmentDocument {
  const rdma = memberOf(RDMA_PROTOCOLS, protocol);
  if (rdma !== undefined) return decodeRdma(members, base, rdma, options);
  const shared = memberOf(SHARED_HANDLE_PROTOCOLS, protocol);
  if (shared !== undefined) return decodeSharedHandle(members, base, shared);
  switch (protocol) {
    case 'tcp':
      return { ...base, protocol, buffers: members.objects('buffers').map(memoryBuffer) };
    case 'ub':
      return decodeUb(members, base, options);
    case 'nccl':
      return { ...base, protocol, buffers: members.objects('buffers').map(ncclBuffer) };
    case 'ascend':
      return decodeAscend(members, base);
    case 'cxl':
      return { ...base, protocol, ...cxlMembers(members), buffers: cxlBuffers(members) };
    case 'nvmeof':
      return decodeNvmeof(members, base);
    case '':
      throw members.error('protocol', 'is missing; the peer offers no segment');
    default:
      throw members.error('protocol', `is ${JSON.stringify(protocol)}, which is not known`);
  }
}

function decodeRdma(
  members: MemberReader,
  base: SegmentDocumentBase,
  protocol: RdmaProtocol,
  options: DecodeSegmentOptions,
): SegmentDocument {
  const devices = members.objects('devices').map(nicEntry);
  const buffers = members
    .objects('buffers')
    .map((buffer) => keyedBuffer(buffer, protocol, devices.length));
  const priorityMatrix = decodePriorityMatrix(members.raw('priority_matrix'), options);
  return { ...base, protocol, devices, buffers, priorityMatrix };
}

function decodeUb(
  members: MemberReader,
  base: SegmentDocumentBase,
  options: DecodeSegmentOptions,
): SegmentDocument {
  const devices = members
    .objects('devices')
    .map((device) => ({ name: filled(device, 'name'), eid: filled(device, 'eid') }));
  const buffers = members.objects('buffers').map((buffer) => {
    const targetSegments = buffer.strings('tseg');
    if (targetSegments.length === 0) throw buffer.error('tseg', 'is empty');
    return { ...memoryBuffer(buffer), targetSegments };
  });
  const priorityMatrix = decodePriorityMatrix(members.raw('priority_matrix'), options);
  return { ...base, protocol: 'ub', devices, buffers, priorityMatrix };
}

function decodeAscend(members: MemberReader, base: SegmentDocumentBase): SegmentDocument {
  const devices = members
    .objects('devices')
    .map((device) => ({ name: filled(device, 'name'), lid: device.integer('lid', 0, U16_MAX) }));
  const buffers = members.objects('buffers').map((buffer) => ({
    ...memoryBuffer(buffer),
    deviceId: buffer.integer('device_id', I32_MIN, I32_MAX, -1),
  }));
  const rank = members.object('rank_info');
  const rankInfo = {
    rankId: rank.u64('rankId'),
    hostIp: rank.string('hostIp'),
    hostPort: rank.u64('hostPort'),
    deviceLogicId: rank.u64('deviceLogicId'),
    devicePhyId: rank.u64('devicePhyId'),
    deviceType: rank.u64('deviceType'),
    deviceIp: rank.string('deviceIp'),
    devicePort: rank.u64('devicePort'),
    pid: rank.u64('pid'),
    endpoints: rank.array('endpoints').filter((endpoint) => typeof endpoint === 'string'),
  };
  return { ...base, protocol: 'ascend', devices, buffers, rankInfo };
}

function decodeSharedHandle(
  members: MemberReader,
  base: SegmentDocumentBase,
  protocol: SharedHandleProtocol,
): SegmentDocument {
  const buffers: SharedHandleBuffer[] = [];
  for (const buffer of members.objects('buffers')) {
    const sharedName = buffer.string('shm_name');
    // Memory that another transport of the peer shares; this protocol cannot reach it.
    if (sharedName === '') continue;
    buffers.push({ ...memoryBuffer(buffer), sharedName });
  }
  return { ...base, protocol, buffers };
}

function decodeNvmeof(members: MemberReader, base: SegmentDocumentBase): SegmentDocument {
  const buffers = members.objects('buffers').map((buffer) => {
    const paths = buffer.object('local_path_map');
    return {
      filePath: buffer.string('file_path'),
      length: buffer.u64('length'),
      localPaths: Object.fromEntries(paths.keys().map((server) => [server, paths.string(server)])),
    };
  });
  // The scripts that write these documents call the name so.
  const name = base.name === '' ? members.string('server_name') : base.name;
  return { ...base, name, protocol: 'nvmeof', buffers };
}

function decodeMulti(
  members: MemberReader,
  base: SegmentDocumentBase,
  protocols: readonly string[],
  options: DecodeSegmentOptions,
): SegmentDocument {
  if (!protocols.some((protocol) => memberOf(MULTI_PROTOCOLS, protocol) !== undefined)) {
    throw members.error('protocol', `has none of ${MULTI_PROTOCOLS.join(', ')}`);
  }
  const rdma = protocols.includes('rdma');
  const devices = rdma ? members.objects('devices').map(nicEntry) : [];
  const matrix = rdma ? members.raw('priority_matrix') : null;
  const buffers: MultiProtocolBuffer[] = [];
  for (const buffer of members.objects('buffers')) {
    const decoded = multiBuffer(buffer, devices.length);
    if (decoded !== undefined) buffers.push(decoded);
  }
  return {
    ...base,
    protocol: 'multi',
    protocols,
    devices,
    priorityMatrix: decodePriorityMatrix(matrix, options),
    ...(protocols.includes('cxl') && cxlMembers(members)),
    buffers,
  };
}

/** Undefined for a buffer that no known protocol reaches. */
function multiBuffer(buffer: MemberReader, devices: number): MultiProtocolBuffer | undefined {
  const protocol = memberOf(MULTI_PROTOCOLS, buffer.string('protocol'));
  switch (protocol) {
    case undefined:
      return undefined;
    case 'tcp':
      return { protocol, ...memoryBuffer(buffer) };
    case 'rdma':
      return { protocol, ...keyedBuffer(buffer, protocol, devices) };
    case 'cxl':
      return { protocol, ...cxlBuffer(buffer) };
    default: {
      const sharedName = buffer.string('shm_name');
      return sharedName === '' ? undefined : { protocol, ...memoryBuffer(buffer), sharedName };
    }
  }
}

function memoryBuffer(buffer: MemberReader): MemoryBuffer {
  return {
    name: filled(buffer, 'name'),
    address: positive(buffer, 'addr'),
    length: positive(buffer, 'length'),
  };
}

function keyedBuffer(buffer: MemberReader, protocol: RdmaProtocol, devices: number): KeyedBuffer {
  const keyed = {
    ...memoryBuffer(buffer),
    remoteKeys: buffer.u64s('rkey'),
    localKeys: buffer.u64s('lkey'),
  };
  if (keysAgree(keyed, protocol, devices)) return keyed;
  const counts = `lkey has ${keyed.localKeys.length}, and there are ${devices} devices`;
  throw buffer.error('rkey', `has ${keyed.remoteKeys.length} keys, but ${counts}`);
}

function ncclBuffer(buffer: MemberReader): DeviceBuffer {
  return { ...memoryBuffer(buffer), deviceId: buffer.integer('device_id', 0, I32_MAX) };
}

function cxlBuffers(members: MemberReader): CxlBuffer[] {
  return members.objects('buffers').map(cxlBuffer);
}

function cxlBuffer(buffer: MemberReader): CxlBuffer {
  return {
    name: filled(buffer, 'name'),
    offset: buffer.u64('offset'),
    length: positive(buffer, 'length'),
  };
}

function cxlMembers(members: MemberReader): { cxlName: string; cxlBaseAddress: bigint } {
  return { cxlName: members.string('cxl_name'), cxlBaseAddress: members.u64('cxl_base_addr') };
}

function nicEntry(device: MemberReader): NicEntry {
  return {
    name: filled(device, 'name'),
    lid: device.integer('lid', 0, U16_MAX),
    gid: filled(device, 'gid'),
  };
}

function filled(members: MemberReader, key: string): string {
  const text = members.string(key);
  if (text === '') throw unusable(members, key, 'empty');
  return text;
}

function positive(members: MemberReader, key: string): bigint {
  const value = members.u64(key);
  if (value === 0n) throw unusable(members, key, '0');
  return value;
}

function unusable(members: MemberReader, key: string, value: string): EngineError {
  return members.error(key, members.has(key) ? `is ${value}` : 'is missing');
}

function decodePriorityMatrix(
  value: Json64,
  { onWarning }: DecodeSegmentOptions,
): DocumentPriorityMatrix {
  if (value === null) return {};
  const locations = isObject(value) ? Object.entries(value) : undefined;
  if (locations?.every(([, lists]) => isNicLists(lists)) === true) {
    return Object.fromEntries(locations) as unknown as DocumentPriorityMatrix;
  }
  onWarning?.('segment document: member "priority_matrix" is not a map to pairs of NIC lists');
  return {};
}

function isNicLists(value: Json64): value is [string[], string[]] {
  return Array.isArray(value) && value.length === 2 && value.every(isStrings);
}

function isStrings(value: Json64 | undefined): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function decodeExtras(value: Json64): DocumentExtras | undefined {
  if (!isObject(value)) return undefined;
  const members = new Map(Object.entries(value));
  const version = members.get('v');
  const instance = members.get('instance');
  const host = members.get('host');
  const capabilities = members.get('caps');
  const buffers = members.get('buffers');
  if (typeof version !== 'number' || !Number.isSafeInteger(version) || version < 1) {
    return undefined;
  }
  if (typeof instance !== 'string' || typeof host !== 'string') return undefined;
  if (!isStrings(capabilities) || !isObjects(buffers)) return undefined;
  return { version, instance, host, capabilities, buffers };
}

function isObjects(value: Json64 | undefined): value is JsonObject[] {
  return Array.isArray(value) && value.every(isObject);
}
