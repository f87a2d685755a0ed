/** The door to what leaves the process: `@transfer-engine/core/wire`. Pure codecs, no I/O. */
export { decodeSegmentDocument, type DecodeSegmentOptions } from './decode-segment-document.ts';
export {
  encodeSegmentDocument,
  formatTimestamp,
  type EncodeSegmentOptions,
} from './encode-segment-document.ts';
export {
  encodeFrame,
  encodeLegacyFrame,
  FrameDecoder,
  FrameType,
  type ControlFrame,
} from './handshake-frame.ts';
export {
  decodeHandshake,
  emptyHandshake,
  encodeHandshake,
  formatNicPath,
  parseNicPath,
  type HandshakeDocument,
  type NicPath,
} from './handshake-document.ts';
export * from './json64.ts';
export { metadataKeys, stripLeadingSlashes, type MetadataKeys } from './metadata-keys.ts';
export {
  decodeNotify,
  decodeNotifyReply,
  encodeNotify,
  encodeNotifyReply,
  encodeProbe,
  encodeProbeReply,
  type NotifyDocument,
  type NotifyExtras,
  type NotifyOutcome,
  type NotifyReply,
} from './notify-document.ts';
export { decodeRpcMeta, encodeRpcMeta, type RpcMetaDocument } from './rpc-meta-document.ts';
export type {
  AscendDocument,
  AscendRankInfo,
  CxlBuffer,
  CxlDocument,
  DeviceBuffer,
  DocumentExtras,
  DocumentPriorityMatrix,
  KeyedBuffer,
  MemoryBuffer,
  MultiProtocolBuffer,
  MultiProtocolDocument,
  NcclDocument,
  NicEntry,
  NvmeofBuffer,
  NvmeofDocument,
  RdmaDocument,
  RdmaProtocol,
  SegmentDocument,
  SegmentDocumentBase,
  SharedHandleBuffer,
  SharedHandleDocument,
  SharedHandleProtocol,
  TcpDocument,
  UbBuffer,
  UbDocument,
} from './segment-document.ts';
export { formatHostPort, isIpv6Literal, parseServerName, type ServerName } from './server-name.ts';
