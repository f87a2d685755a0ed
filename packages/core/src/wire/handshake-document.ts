import { integer, text, U16_MAX, U32_MAX } from './exact-members.ts';
import { MemberReader } from './json-members.ts';
import type { Json64 } from './json-value.ts';
import { stringifyJson64 } from './stringify-json64.ts';

/** One NIC of one server: `server@device`. */
export interface NicPath {
  /** Name of the segment, or its `rdma_server_name`. */
  readonly server: string;
  readonly device: string;
}

/** Takes a NIC path apart at its first "@"; undefined when it has none. */
export function parseNicPath(path: string): NicPath | undefined {
  const at = path.indexOf('@');
  return at < 0 ? undefined : { server: path.slice(0, at), device: path.slice(at + 1) };
}

export function formatNicPath(server: string, device: string): string {
  return `${server}@${device}`;
}

/**
 * The body of a connection handshake, request and answer alike.
 *
 * @remarks Source: Mooncake 3b5a594, src/transfer_metadata.cpp (TransferHandshakeUtil).
 */
export interface HandshakeDocument {
  /** Opaque to all but NCCL. */
  readonly payload: string;
  /** The sender's NIC. */
  readonly localNicPath: string;
  readonly localLid: number;
  /** 16 hex bytes joined by ":"; empty from peers before v0.3.11. */
  readonly localGid: string;
  /** The receiver's NIC as the sender knows it. */
  readonly peerNicPath: string;
  /** Queue pair numbers in the order of connecting; empty for EFA. */
  readonly queuePairs: readonly number[];
  /**
   * Present when the sender supports acknowledging: false in the request and its answer, true in
   * the acknowledgement. Its presence is the capability.
   */
  readonly readyAck?: boolean;
  /** Not empty: the handshake is refused, and why. */
  readonly replyMessage: string;
  /** Hex of the provider's address. */
  readonly efaAddress?: string;
  readonly cxiAddress?: string;
  readonly barexPort?: number;
  readonly jettyNumbers?: readonly number[];
}

/** What an engine without any transport that connects answers. */
export function emptyHandshake(): HandshakeDocument {
  return {
    payload: '',
    localNicPath: '',
    localLid: 0,
    localGid: '',
    peerNicPath: '',
    queuePairs: [],
    replyMessage: '',
  };
}

/** @throws EngineError `ERR_TE_INVALID_ARGUMENT` naming the member that a peer would not accept. */
export function encodeHandshake(document: HandshakeDocument): string {
  const { readyAck, efaAddress, cxiAddress, barexPort, jettyNumbers } = document;
  return stringifyJson64({
    payload: text(document.payload, 'payload'),
    local_nic_path: text(document.localNicPath, 'localNicPath'),
    local_lid: integer(document.localLid, 0, U16_MAX, 'localLid'),
    local_gid: text(document.localGid, 'localGid'),
    peer_nic_path: text(document.peerNicPath, 'peerNicPath'),
    qp_num: uint32s(document.queuePairs, 'queuePairs'),
    reply_msg: text(document.replyMessage, 'replyMessage'),
    ...(readyAck !== undefined && { ready_ack: readyAck === true }),
    ...(efaAddress !== undefined && { efa_addr: text(efaAddress, 'efaAddress') }),
    ...(cxiAddress !== undefined && { cxi_addr: text(cxiAddress, 'cxiAddress') }),
    ...(barexPort !== undefined && { barex_port: integer(barexPort, 0, U16_MAX, 'barexPort') }),
    ...(jettyNumbers !== undefined && { jetty_num: uint32s(jettyNumbers, 'jettyNumbers') }),
  });
}

function uint32s(values: readonly number[], place: string): number[] {
  return values.map((value, index) => integer(value, 0, U32_MAX, `${place}[${index}]`));
}

/** @throws EngineError `ERR_TE_MALFORMED_JSON`, or `ERR_TE_PROTOCOL` naming the member. */
export function decodeHandshake(input: Json64): HandshakeDocument {
  const members = MemberReader.root(input, 'connection handshake', 'ERR_TE_PROTOCOL');
  const lid = members.raw('local_lid');
  const gid = members.raw('local_gid');
  return {
    payload: members.string('payload'),
    localNicPath: members.string('local_nic_path'),
    localLid: isUnsigned(lid, U16_MAX) ? lid : 0,
    localGid: typeof gid === 'string' ? gid : '',
    peerNicPath: members.string('peer_nic_path'),
    queuePairs: numbers(members, 'qp_num'),
    replyMessage: members.string('reply_msg'),
    ...decodeOptional(members),
  };
}

/** Members of single builds: others do not look at them, so a wrong type is as good as absent. */
function decodeOptional(members: MemberReader): Partial<HandshakeDocument> {
  const efa = members.raw('efa_addr');
  const cxi = members.raw('cxi_addr');
  const barexPort = members.raw('barex_port');
  return {
    ...(members.has('ready_ack') && { readyAck: members.raw('ready_ack') === true }),
    ...(typeof efa === 'string' && { efaAddress: efa }),
    ...(typeof cxi === 'string' && { cxiAddress: cxi }),
    ...(isUnsigned(barexPort, U16_MAX) && { barexPort }),
    ...(Array.isArray(members.raw('jetty_num')) && { jettyNumbers: numbers(members, 'jetty_num') }),
  };
}

/** What is no array has no elements, as in C++. */
function numbers(members: MemberReader, key: string): number[] {
  if (!Array.isArray(members.raw(key))) return [];
  return members.u64s(key).map((value, index) => {
    if (value <= U32_MAX) return Number(value);
    throw members.error(`${key}[${index}]`, `is ${value}; expected at most ${U32_MAX}`);
  });
}

function isUnsigned(value: Json64, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max;
}
