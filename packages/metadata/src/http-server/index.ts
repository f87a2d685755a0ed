export {
  createMetadataServer,
  type MetadataServer,
  type MetadataServerOptions,
  type RpcMetaOverwrite,
} from './metadata-server.ts';
