/** One buffer that a segment offers. */
export interface BufferDescriptor {
  /** Segment name for tcp; location ("cpu:0") for rdma and its relatives. */
  readonly name: string;
  /** First address in the owner's address space. */
  readonly address: bigint;
  /** Bytes; documents with more than 2^53 - 1 are refused when they are read. */
  readonly length: number;
  /** One key a device, in the order of `devices`; empty for transports without keys. */
  readonly remoteKeys: readonly bigint[];
  readonly localKeys: readonly bigint[];
  /** IPC handle text of GPU and shared-memory transports (`shm_name`). */
  readonly sharedName?: string;
  /** What our own engines publish beside C++'s members. */
  readonly extras?: Readonly<Record<string, unknown>>;
}

export interface DeviceDescriptor {
  readonly name: string;
  readonly lid: number;
  readonly gid: string;
}

/** location -> [preferred NICs, other available NICs] */
export type PriorityMatrix = Readonly<
  Record<string, readonly [readonly string[], readonly string[]]>
>;

/** What only our own engines publish and understand (member `x_te` of the document). */
export interface EngineExtras {
  /** Version of this member. */
  readonly version: number;
  /** Random, new at every start of an engine: tells a restarted peer from the one we knew. */
  readonly instance: string;
  /** Identity of host and boot. */
  readonly host: string;
  /** Names of extensions that the engine understands. */
  readonly capabilities: readonly string[];
}

/**
 * What a segment offers, independent of how it was written down.
 *
 * `protocols` has one entry in everything that default builds of C++ write, several in documents
 * of multi-protocol builds.
 */
export interface SegmentDescriptor {
  readonly name: string;
  readonly protocols: readonly string[];
  /** 0 when the segment has no TCP data port. */
  readonly tcpDataPort: number;
  /** 1 when the document does not say. */
  readonly tcpProtoVersion: number;
  readonly rdmaServerName?: string;
  readonly buffers: readonly BufferDescriptor[];
  readonly devices: readonly DeviceDescriptor[];
  readonly priorityMatrix: PriorityMatrix;
  readonly extras?: EngineExtras;
}

/** What transports fill in while the local segment is being described. */
export interface SegmentDraft {
  protocols: string[];
  tcpDataPort: number;
  tcpProtoVersion: number;
  rdmaServerName?: string;
  devices: DeviceDescriptor[];
  priorityMatrix: Record<string, readonly [readonly string[], readonly string[]]>;
  capabilities: string[];
  /** Adds what a transport has to say about one buffer; called once for each region and transport. */
  buffers: BufferDraft[];
}

export interface BufferDraft {
  readonly regionId: number;
  name: string;
  readonly address: bigint;
  readonly length: number;
  remoteKeys: bigint[];
  localKeys: bigint[];
  extras: Record<string, unknown>;
}
