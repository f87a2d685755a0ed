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
export function parseNicPath(text: string): NicPath | undefined {
  const at = text.indexOf('@');
  return at < 0 ? undefined : { server: text.slice(0, at), device: text.slice(at + 1) };
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

const U16_MAX = 0xffff;
const U32_MAX = 0xffff_ffff;

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

export function encodeHandshake(document: HandshakeDocument): string {
  const optional = {
    ready_ack: document.readyAck,
    efa_addr: document.efaAddress,
    cxi_addr: document.cxiAddress,
    barex_port: document.barexPort,
    jetty_num: document.jettyNumbers,
  };
  return stringifyJson64({
    payload: document.payload,
    local_nic_path: document.localNicPath,
    local_lid: document.localLid,
    local_gid: document.localGid,
    peer_nic_path: document.peerNicPath,
    qp_num: document.queuePairs,
    reply_msg: document.replyMessage,
    ...Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)),
  });
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
    ...(isUnsigned(barexPort, U32_MAX) && { barexPort }),
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
