/**
 * What a segment offers, as it is written down in metadata stores and exchanged in P2P mode.
 *
 * These types name the members of the documents of every protocol; JSON is the business of
 * `decode-segment-document.ts` and `encode-segment-document.ts`. Addresses, lengths and keys are
 * bigints, because 64 bits of each travel.
 *
 * Source: Mooncake 3b5a594, src/transfer_metadata.cpp (encodeSegmentDesc, decodeSegmentDesc).
 */
export type SegmentDocument =
  | TcpDocument
  | RdmaDocument
  | UbDocument
  | NcclDocument
  | AscendDocument
  | SharedHandleDocument
  | CxlDocument
  | NvmeofDocument
  | MultiProtocolDocument;

/** Members of every document. */
export interface SegmentDocumentBase {
  /** Name of the segment; in P2P mode also where its control port is. */
  readonly name: string;
  /** 0 when there is no TCP data port. */
  readonly tcpDataPort: number;
  /** 1 when a document does not say: an engine without status frames. */
  readonly tcpProtoVersion: number;
  /** Stands for `name` in NIC paths when it is there. */
  readonly rdmaServerName?: string;
  /** As it was read; a writer is given its own. */
  readonly timestamp?: string;
  readonly extras?: DocumentExtras;
}

/** Member `x_te`: what only our own engines write and read; all others skip it. */
export interface DocumentExtras {
  /** Version of this member. */
  readonly version: number;
  /** Random, new at every start of an engine. */
  readonly instance: string;
  /** Identity of host and boot. */
  readonly host: string;
  readonly capabilities: readonly string[];
  /** Per-buffer extras; plain JSON values. */
  readonly buffers: readonly Readonly<Record<string, unknown>>[];
}

/** location -> [preferred NICs, other NICs that can be used] */
export type DocumentPriorityMatrix = Readonly<
  Record<string, readonly [readonly string[], readonly string[]]>
>;

export interface MemoryBuffer {
  /** Segment name for tcp, location ("cpu:0") for the others. Never empty. */
  readonly name: string;
  /** Never 0. */
  readonly address: bigint;
  /** Bytes; never 0. */
  readonly length: bigint;
}

export interface KeyedBuffer extends MemoryBuffer {
  /** One key a device, in the order of `devices`; empty when peers have no access. */
  readonly remoteKeys: readonly bigint[];
  readonly localKeys: readonly bigint[];
}

export interface SharedHandleBuffer extends MemoryBuffer {
  /** `shm_name`: upper-case hex of a vendor's IPC handle. */
  readonly sharedName: string;
}

export interface DeviceBuffer extends MemoryBuffer {
  readonly deviceId: number;
}

export interface UbBuffer extends MemoryBuffer {
  /** `tseg`; never empty. */
  readonly targetSegments: readonly string[];
}

export interface CxlBuffer {
  readonly name: string;
  /** From the base of the device. */
  readonly offset: bigint;
  readonly length: bigint;
}

export interface NvmeofBuffer {
  readonly filePath: string;
  readonly length: bigint;
  /** Server name -> path at which that server has mounted the file. */
  readonly localPaths: Readonly<Record<string, string>>;
}

export interface NicEntry {
  readonly name: string;
  readonly lid: number;
  /** rdma: 16 hex bytes joined by ":"; efa and cxi: hex of the provider's address. */
  readonly gid: string;
}

export interface TcpDocument extends SegmentDocumentBase {
  readonly protocol: 'tcp';
  readonly buffers: readonly MemoryBuffer[];
}

export interface RdmaDocument extends SegmentDocumentBase {
  readonly protocol: RdmaProtocol;
  readonly devices: readonly NicEntry[];
  readonly buffers: readonly KeyedBuffer[];
  readonly priorityMatrix: DocumentPriorityMatrix;
}

export interface UbDocument extends SegmentDocumentBase {
  readonly protocol: 'ub';
  readonly devices: readonly { readonly name: string; readonly eid: string }[];
  readonly buffers: readonly UbBuffer[];
  readonly priorityMatrix: DocumentPriorityMatrix;
}

export interface NcclDocument extends SegmentDocumentBase {
  readonly protocol: 'nccl';
  /** `deviceId` is never negative. */
  readonly buffers: readonly DeviceBuffer[];
}

export interface AscendDocument extends SegmentDocumentBase {
  readonly protocol: 'ascend';
  readonly devices: readonly { readonly name: string; readonly lid: number }[];
  /** `deviceId` is -1 when a document does not say. */
  readonly buffers: readonly DeviceBuffer[];
  readonly rankInfo: AscendRankInfo;
}

export interface AscendRankInfo {
  readonly rankId: bigint;
  readonly hostIp: string;
  readonly hostPort: bigint;
  readonly deviceLogicId: bigint;
  readonly devicePhyId: bigint;
  readonly deviceType: bigint;
  readonly deviceIp: string;
  readonly devicePort: bigint;
  readonly pid: bigint;
  readonly endpoints: readonly string[];
}

/** GPUs' and others' memory that is shared by a handle. */
export interface SharedHandleDocument extends SegmentDocumentBase {
  readonly protocol: SharedHandleProtocol;
  readonly buffers: readonly SharedHandleBuffer[];
}

export interface CxlDocument extends SegmentDocumentBase {
  readonly protocol: 'cxl';
  readonly cxlName: string;
  readonly cxlBaseAddress: bigint;
  readonly buffers: readonly CxlBuffer[];
}

/** Written by scripts, never by an engine; it can be read but not encoded. */
export interface NvmeofDocument extends SegmentDocumentBase {
  readonly protocol: 'nvmeof';
  readonly buffers: readonly NvmeofBuffer[];
}

/**
 * Several protocols over one segment (builds with ENABLE_MULTI_PROTOCOL). Its `protocol` member is
 * an array, which other builds cannot read.
 */
export interface MultiProtocolDocument extends SegmentDocumentBase {
  readonly protocol: 'multi';
  /** In the order in which they were installed; more than one. */
  readonly protocols: readonly string[];
  /** With rdma only; else empty. */
  readonly devices: readonly NicEntry[];
  readonly priorityMatrix: DocumentPriorityMatrix;
  /** With cxl only. */
  readonly cxlName?: string;
  readonly cxlBaseAddress?: bigint;
  readonly buffers: readonly MultiProtocolBuffer[];
}

export type MultiProtocolBuffer =
  | (MemoryBuffer & { readonly protocol: 'tcp' })
  | (KeyedBuffer & { readonly protocol: 'rdma' })
  | (SharedHandleBuffer & { readonly protocol: 'hip' | 'maca' | 'musa' })
  | (CxlBuffer & { readonly protocol: 'cxl' });

export const RDMA_PROTOCOLS = ['rdma', 'barex', 'efa', 'cxi'] as const;
export type RdmaProtocol = (typeof RDMA_PROTOCOLS)[number];

export const SHARED_HANDLE_PROTOCOLS = [
  'nvlink',
  'nvlink_intra',
  'hip',
  'maca',
  'musa',
  'ubshmem',
  'sunrise_link',
] as const;
export type SharedHandleProtocol = (typeof SHARED_HANDLE_PROTOCOLS)[number];

/** What can be combined in one multi-protocol document. */
export const MULTI_PROTOCOLS = ['cxl', 'tcp', 'rdma', 'hip', 'maca', 'musa'] as const;
export type MultiProtocol = (typeof MULTI_PROTOCOLS)[number];

/** The table's entry that equals `name`, so that a string becomes one of its type. */
export function memberOf<T extends string>(table: readonly T[], name: string): T | undefined {
  return table.find((entry) => entry === name);
}

/**
 * Whether the keys of a buffer agree with each other and with the devices. Buffers without remote
 * keys are for their owner alone, and always agree; barex has keys of its own count.
 */
export function keysAgree(buffer: KeyedBuffer, protocol: RdmaProtocol, devices: number): boolean {
  const count = buffer.remoteKeys.length;
  if (count === 0) return true;
  return count === buffer.localKeys.length && (protocol === 'barex' || count === devices);
}
