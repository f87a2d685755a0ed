import { EngineError, invalidArgument } from '../base/errors.ts';
import { filled, integer, positive, text, texts, u64, U16_MAX, U32_MAX } from './exact-members.ts';
import {
  keysAgree,
  memberOf,
  MULTI_PROTOCOLS,
  RDMA_PROTOCOLS,
  SHARED_HANDLE_PROTOCOLS,
  type AscendRankInfo,
  type CxlBuffer,
  type DeviceBuffer,
  type DocumentExtras,
  type DocumentPriorityMatrix,
  type KeyedBuffer,
  type MemoryBuffer,
  type MultiProtocolBuffer,
  type MultiProtocolDocument,
  type NicEntry,
  type RdmaProtocol,
  type SegmentDocument,
  type SharedHandleBuffer,
  type UbDocument,
} from './segment-document.ts';
import { stringifyJson64 } from './stringify-json64.ts';

export interface EncodeSegmentOptions {
  /** See {@link formatTimestamp}; readers do not interpret it. */
  readonly timestamp: string;
}

type Members = Record<string, unknown>;

const I32_MIN = -0x8000_0000;
const I32_MAX = 0x7fff_ffff;

/**
 * Writes a segment document, without a newline at its end.
 *
 * Types are exact and values are what readers accept, because a C++ reader that meets anything else
 * drops the document or ends its process.
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT` naming the member that no reader would accept,
 *   `ERR_TE_METADATA` for nvmeof, which no engine publishes.
 * @remarks Source: Mooncake 3b5a594, src/transfer_metadata.cpp (encodeSegmentDesc).
 */
export function encodeSegmentDocument(
  document: SegmentDocument,
  options: EncodeSegmentOptions,
): string {
  const { rdmaServerName, extras } = document;
  return stringifyJson64({
    ...protocolMembers(document),
    name: text(document.name, 'name'),
    tcp_data_port: integer(document.tcpDataPort, 0, U16_MAX, 'tcpDataPort'),
    tcp_proto_version: integer(document.tcpProtoVersion, I32_MIN, I32_MAX, 'tcpProtoVersion'),
    timestamp: text(options.timestamp, 'timestamp'),
    ...(rdmaServerName !== undefined &&
      rdmaServerName !== '' && { rdma_server_name: text(rdmaServerName, 'rdmaServerName') }),
    ...(extras !== undefined && { x_te: extrasMember(extras) }),
  });
}

/**
 * Local time as C++ writes it: `YYYY-MM-DD HH:MM:SS.uuuuuu`.
 *
 * @remarks Source: Mooncake 3b5a594, include/common.h (getCurrentDateTime).
 */
export function formatTimestamp(date: Date): string {
  const pad = (value: number, width = 2): string => String(value).padStart(width, '0');
  const day = [pad(date.getFullYear(), 4), pad(date.getMonth() + 1), pad(date.getDate())];
  const time = [pad(date.getHours()), pad(date.getMinutes()), pad(date.getSeconds())];
  return `${day.join('-')} ${time.join(':')}.${pad(date.getMilliseconds(), 3)}000`;
}

function protocolMembers(document: SegmentDocument): Members {
  const { protocol } = document;
  switch (protocol) {
    case 'tcp':
      return { protocol, buffers: document.buffers.map(memoryMembers) };
    case 'ub':
      return ubMembers(document);
    case 'nccl':
      return {
        protocol,
        buffers: document.buffers.map((buffer, index) => deviceMembers(buffer, index, 0)),
      };
    case 'ascend':
      return {
        protocol,
        devices: document.devices.map(({ name, lid }, index) => ({
          name: filled(name, `devices[${index}].name`),
          lid: integer(lid, 0, U16_MAX, `devices[${index}].lid`),
        })),
        buffers: document.buffers.map((buffer, index) => deviceMembers(buffer, index, I32_MIN)),
        rank_info: rankMembers(document.rankInfo),
      };
    case 'cxl':
      return {
        protocol,
        cxl_name: text(document.cxlName, 'cxlName'),
        cxl_base_addr: u64(document.cxlBaseAddress, 'cxlBaseAddress'),
        buffers: document.buffers.map(cxlMembers),
      };
    case 'multi':
      return multiMembers(document);
    case 'nvmeof':
      throw new EngineError(
        'ERR_TE_METADATA',
        'nvmeof documents are read only; engines write none',
      );
    case 'rdma':
    case 'barex':
    case 'efa':
    case 'cxi':
      return {
        protocol,
        devices: document.devices.map(nicMembers),
        buffers: document.buffers.map((buffer, index) =>
          keyedMembers(buffer, index, protocol, document.devices.length),
        ),
        priority_matrix: matrixMember(document.priorityMatrix),
      };
    default:
      return { protocol: shared(protocol), buffers: document.buffers.map(sharedMembers) };
  }
}

function ubMembers({ protocol, devices, buffers, priorityMatrix }: UbDocument): Members {
  return {
    protocol,
    devices: devices.map(({ name, eid }, index) => ({
      name: filled(name, `devices[${index}].name`),
      eid: filled(eid, `devices[${index}].eid`),
    })),
    buffers: buffers.map((buffer, index) => {
      const place = `buffers[${index}].targetSegments`;
      if (buffer.targetSegments.length === 0) throw invalidArgument(place, [], 'at least one');
      return { ...memoryMembers(buffer, index), tseg: texts(buffer.targetSegments, place) };
    }),
    priority_matrix: matrixMember(priorityMatrix),
  };
}

function multiMembers(document: MultiProtocolDocument): Members {
  const { protocols, devices, priorityMatrix, cxlName, cxlBaseAddress } = document;
  const known = protocols.every((name) => memberOf(MULTI_PROTOCOLS, name) !== undefined);
  if (!known || protocols.length < 2) {
    const accepted = `two or more of ${MULTI_PROTOCOLS.join(', ')}`;
    throw invalidArgument('protocols', protocols.join(','), accepted);
  }
  return {
    protocol: protocols,
    ...(protocols.includes('rdma') && {
      devices: devices.map(nicMembers),
      priority_matrix: matrixMember(priorityMatrix),
    }),
    ...(protocols.includes('cxl') && {
      cxl_name: text(cxlName, 'cxlName'),
      cxl_base_addr: u64(cxlBaseAddress, 'cxlBaseAddress'),
    }),
    buffers: document.buffers.map((buffer, index) => {
      if (!protocols.includes(buffer.protocol)) {
        const accepted = `one of ${protocols.join(', ')}`;
        throw invalidArgument(`buffers[${index}].protocol`, buffer.protocol, accepted);
      }
      return { protocol: buffer.protocol, ...multiBufferMembers(buffer, index, devices.length) };
    }),
  };
}

function multiBufferMembers(buffer: MultiProtocolBuffer, index: number, devices: number): Members {
  switch (buffer.protocol) {
    case 'tcp':
      return memoryMembers(buffer, index);
    case 'rdma':
      return keyedMembers(buffer, index, 'rdma', devices);
    case 'cxl':
      return cxlMembers(buffer, index);
    default:
      return sharedMembers(buffer, index);
  }
}

function memoryMembers(buffer: MemoryBuffer, index: number): Members {
  const place = `buffers[${index}]`;
  return {
    name: filled(buffer.name, `${place}.name`),
    addr: positive(buffer.address, `${place}.address`),
    length: positive(buffer.length, `${place}.length`),
  };
}

function keyedMembers(
  buffer: KeyedBuffer,
  index: number,
  protocol: RdmaProtocol,
  devices: number,
): Members {
  const place = `buffers[${index}]`;
  if (!keysAgree(buffer, protocol, devices)) {
    const accepted = `as many as local keys (${buffer.localKeys.length}) and devices (${devices})`;
    throw invalidArgument(`${place}.remoteKeys`, buffer.remoteKeys, accepted);
  }
  // Verbs have 32-bit keys, and their readers hold no more.
  const wide = protocol === 'efa' || protocol === 'cxi';
  const key = (value: bigint, where: string): bigint => {
    if (wide || u64(value, where) <= U32_MAX) return u64(value, where);
    throw invalidArgument(where, value, 'a 32-bit key');
  };
  return {
    ...memoryMembers(buffer, index),
    rkey: buffer.remoteKeys.map((value, nth) => key(value, `${place}.remoteKeys[${nth}]`)),
    lkey: buffer.localKeys.map((value, nth) => key(value, `${place}.localKeys[${nth}]`)),
  };
}

function sharedMembers(buffer: SharedHandleBuffer, index: number): Members {
  const place = `buffers[${index}].sharedName`;
  return { ...memoryMembers(buffer, index), shm_name: filled(buffer.sharedName, place) };
}

function deviceMembers(buffer: DeviceBuffer, index: number, min: number): Members {
  const place = `buffers[${index}].deviceId`;
  return {
    ...memoryMembers(buffer, index),
    device_id: integer(buffer.deviceId, min, I32_MAX, place),
  };
}

function cxlMembers(buffer: CxlBuffer, index: number): Members {
  const place = `buffers[${index}]`;
  return {
    name: filled(buffer.name, `${place}.name`),
    offset: u64(buffer.offset, `${place}.offset`),
    length: positive(buffer.length, `${place}.length`),
  };
}

function nicMembers(device: NicEntry, index: number): Members {
  const place = `devices[${index}]`;
  return {
    name: filled(device.name, `${place}.name`),
    lid: integer(device.lid, 0, U16_MAX, `${place}.lid`),
    gid: filled(device.gid, `${place}.gid`),
  };
}

function rankMembers(rank: AscendRankInfo): Members {
  return {
    rankId: u64(rank.rankId, 'rankInfo.rankId'),
    hostIp: text(rank.hostIp, 'rankInfo.hostIp'),
    hostPort: u64(rank.hostPort, 'rankInfo.hostPort'),
    deviceLogicId: u64(rank.deviceLogicId, 'rankInfo.deviceLogicId'),
    devicePhyId: u64(rank.devicePhyId, 'rankInfo.devicePhyId'),
    deviceType: u64(rank.deviceType, 'rankInfo.deviceType'),
    deviceIp: text(rank.deviceIp, 'rankInfo.deviceIp'),
    devicePort: u64(rank.devicePort, 'rankInfo.devicePort'),
    pid: u64(rank.pid, 'rankInfo.pid'),
    endpoints: texts(rank.endpoints, 'rankInfo.endpoints'),
  };
}

/** A topology without any location is written as null, as C++ does. */
function matrixMember(matrix: DocumentPriorityMatrix): Members | null {
  const locations = Object.entries(matrix);
  if (locations.length === 0) return null;
  return Object.fromEntries(
    locations.map(([location, [preferred, others]]) => {
      const place = `priorityMatrix[${JSON.stringify(location)}]`;
      return [location, [texts(preferred, place), texts(others, place)]];
    }),
  );
}

function extrasMember(extras: DocumentExtras): Members {
  return {
    v: integer(extras.version, 1, Number.MAX_SAFE_INTEGER, 'extras.version'),
    instance: text(extras.instance, 'extras.instance'),
    host: text(extras.host, 'extras.host'),
    caps: texts(extras.capabilities, 'extras.capabilities'),
    buffers: extras.buffers,
  };
}

function shared(protocol: string): string {
  const known = memberOf(SHARED_HANDLE_PROTOCOLS, protocol);
  if (known !== undefined) return known;
  const accepted = [...RDMA_PROTOCOLS, ...SHARED_HANDLE_PROTOCOLS, 'tcp', 'ub', 'nccl'];
  throw invalidArgument('protocol', protocol, `${accepted.join(', ')}, ascend, cxl, multi`);
}
