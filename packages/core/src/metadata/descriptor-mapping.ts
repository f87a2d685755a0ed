import { EngineError } from '../base/errors.ts';
import type {
  BufferDescriptor,
  BufferDraft,
  DeviceDescriptor,
  EngineExtras,
  SegmentDescriptor,
  SegmentDraft,
} from '../segment/segment-descriptor.ts';
import {
  RDMA_PROTOCOLS,
  type DocumentExtras,
  type KeyedBuffer,
  type SegmentDocument,
} from '../wire/segment-document.ts';

/** Version of `x_te` that is written. Readers take later ones for what they know of them. */
export const EXTRAS_VERSION = 1;

export interface EngineIdentity {
  /** Random, new at every start of an engine. */
  readonly instance: string;
  /** Identity of host and boot. */
  readonly host: string;
}

export interface DocumentOptions {
  /** Name of the segment. */
  readonly name: string;
  readonly identity: EngineIdentity;
  /** Leaves out `x_te`. */
  readonly strict?: boolean;
}

/**
 * The document that offers a segment to engines of every make.
 *
 * `protocol` is one string, because default builds of C++ end over anything else: the verbs-like
 * protocol if one is active, else `tcp`. What transports of our
 * own add is found in `x_te`. A draft without any protocol has nothing to offer yet: undefined.
 *
 * In the tcp form buffers carry the name of the segment.
 * Source: Mooncake 3b5a594, tcp_transport.cpp (registerLocalMemory).
 */
export function toSegmentDocument(
  draft: SegmentDraft,
  options: DocumentOptions,
): SegmentDocument | undefined {
  if (draft.protocols.length === 0) return undefined;
  const base = {
    name: options.name,
    tcpDataPort: draft.tcpDataPort,
    tcpProtoVersion: draft.tcpProtoVersion,
    ...(draft.rdmaServerName !== undefined && { rdmaServerName: draft.rdmaServerName }),
    ...(options.strict !== true && { extras: toDocumentExtras(draft, options.identity) }),
  };
  const verbs = RDMA_PROTOCOLS.find((protocol) => draft.protocols.includes(protocol));
  if (verbs !== undefined) {
    const { devices, priorityMatrix } = draft;
    const buffers = draft.buffers.map(toKeyedBuffer);
    return { ...base, protocol: verbs, devices, priorityMatrix, buffers };
  }
  const buffers = draft.buffers.map(({ address, length }) => ({
    name: options.name,
    address,
    length: BigInt(length),
  }));
  return { ...base, protocol: 'tcp', buffers };
}

/**
 * What a document offers.
 *
 * @throws EngineError `ERR_TE_METADATA` for a buffer of more than 2^53 - 1 bytes.
 */
export function toSegmentDescriptor(document: SegmentDocument): SegmentDescriptor {
  const extras = document.extras;
  return {
    name: document.name,
    protocols: document.protocol === 'multi' ? document.protocols : [document.protocol],
    tcpDataPort: document.tcpDataPort,
    tcpProtoVersion: document.tcpProtoVersion,
    ...(document.rdmaServerName !== undefined && { rdmaServerName: document.rdmaServerName }),
    buffers: toBuffers(document),
    devices: toDevices(document),
    priorityMatrix: 'priorityMatrix' in document ? document.priorityMatrix : {},
    ...(extras !== undefined && { extras: toEngineExtras(extras) }),
  };
}

type AnyBuffer = SegmentDocument['buffers'][number];

function toBuffers(document: SegmentDocument): BufferDescriptor[] {
  const buffers: readonly AnyBuffer[] = document.buffers;
  const extras = document.extras?.buffers ?? [];
  // One entry a buffer, or none at all: a list of another length belongs to something else.
  const aligned = extras.length === buffers.length;
  return buffers.map((buffer, index) => {
    const own = aligned ? extras[index] : undefined;
    const described = toBuffer(buffer, index, document.name);
    return own !== undefined && Object.keys(own).length > 0
      ? { ...described, extras: own }
      : described;
  });
}

function toBuffer(buffer: AnyBuffer, index: number, segment: string): BufferDescriptor {
  const keyed = 'remoteKeys' in buffer;
  return {
    name: 'filePath' in buffer ? buffer.filePath : buffer.name,
    address: addressOf(buffer),
    length: toLength(buffer.length, index, segment),
    remoteKeys: keyed ? buffer.remoteKeys : [],
    localKeys: keyed ? buffer.localKeys : [],
    ...('sharedName' in buffer && { sharedName: buffer.sharedName }),
  };
}

/** Requests to a cxl device name offsets from its base; files start at 0. */
function addressOf(buffer: AnyBuffer): bigint {
  if ('address' in buffer) return buffer.address;
  return 'offset' in buffer ? buffer.offset : 0n;
}

function toLength(length: bigint, index: number, segment: string): number {
  if (length <= Number.MAX_SAFE_INTEGER) return Number(length);
  throw new EngineError(
    'ERR_TE_METADATA',
    `buffer ${index} of segment "${segment}" has ${length} bytes; at most 2^53 - 1 are supported`,
    { details: { segment, buffer: index, length } },
  );
}

function toDevices(document: SegmentDocument): readonly DeviceDescriptor[] {
  switch (document.protocol) {
    case 'ub':
      return document.devices.map(({ name, eid }) => ({ name, lid: 0, gid: eid }));
    case 'ascend':
      return document.devices.map(({ name, lid }) => ({ name, lid, gid: '' }));
    default:
      return 'devices' in document ? document.devices : [];
  }
}

function toKeyedBuffer(buffer: BufferDraft): KeyedBuffer {
  const { name, address, length, remoteKeys, localKeys } = buffer;
  return { name, address, length: BigInt(length), remoteKeys, localKeys };
}

function toDocumentExtras(draft: SegmentDraft, identity: EngineIdentity): DocumentExtras {
  const silent = draft.buffers.every(({ extras }) => Object.keys(extras).length === 0);
  return {
    version: EXTRAS_VERSION,
    instance: identity.instance,
    host: identity.host,
    capabilities: draft.capabilities,
    buffers: silent ? [] : draft.buffers.map(({ extras }) => extras),
  };
}

function toEngineExtras(extras: DocumentExtras): EngineExtras {
  const { version, instance, host, capabilities } = extras;
  return { version, instance, host, capabilities };
}
