export interface MetadataKeys {
  /** Where the document of a segment is; names with a "/" are kept outside of `ram/`. */
  segment(name: string): string;
  /** Where the control port of a server is. */
  rpcMeta(serverName: string): string;
}

/**
 * Keys of metadata stores, used verbatim (the HTTP store percent-encodes them itself).
 *
 * @param clusterId `MC_METADATA_CLUSTER_ID`: separates clusters that share a store; may contain "/".
 * @remarks Source: Mooncake 3b5a594, src/transfer_metadata.cpp (getFullMetadataKey).
 */
export function metadataKeys(clusterId = ''): MetadataKeys {
  const cluster = clusterId === '' || clusterId.endsWith('/') ? clusterId : `${clusterId}/`;
  const prefix = `mooncake/${cluster}`;
  return {
    segment: (name) => prefix + (name.includes('/') ? name : `ram/${name}`),
    rpcMeta: (serverName) => `${prefix}rpc_meta/${serverName}`,
  };
}

/** What opening a segment does to its name first. */
export function stripLeadingSlashes(name: string): string {
  let start = 0;
  while (name.startsWith('/', start)) start += 1;
  return name.slice(start);
}
