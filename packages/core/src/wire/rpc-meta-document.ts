import { filled, integer, U16_MAX } from './exact-members.ts';
import { MemberReader } from './json-members.ts';
import type { Json64 } from './json-value.ts';
import { stringifyJson64 } from './stringify-json64.ts';

/** Where the control port of a server is; kept in a store under its server name. */
export interface RpcMetaDocument {
  /** Host name or address, IPv6 without brackets. */
  readonly host: string;
  readonly rpcPort: number;
}

/**
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT` naming the member.
 * @remarks Source: Mooncake 3b5a594, src/transfer_metadata.cpp (addRpcMetaEntry).
 */
export function encodeRpcMeta(document: RpcMetaDocument): string {
  return stringifyJson64({
    ip_or_host_name: filled(document.host, 'host'),
    rpc_port: integer(document.rpcPort, 0, U16_MAX, 'rpcPort'),
  });
}

/** @throws EngineError `ERR_TE_MALFORMED_JSON`, or `ERR_TE_METADATA` naming the member. */
export function decodeRpcMeta(input: Json64): RpcMetaDocument {
  const members = MemberReader.root(input, 'rpc_meta document', 'ERR_TE_METADATA');
  const host = members.string('ip_or_host_name');
  if (host === '') throw members.error('ip_or_host_name', 'is empty; expected a host');
  return { host, rpcPort: members.integer('rpc_port', 0, U16_MAX) };
}
