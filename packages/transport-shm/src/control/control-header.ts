import type { ProcessIdentity } from '../objects/process-identity.ts';
import {
  CONTROL_MAGIC,
  HEADER_BYTES,
  MAGIC_AT,
  NAMESPACE_AT,
  PID_AT,
  START_TIME_AT,
  TAG_AT,
  TOKEN_AT,
  TOKEN_BYTES,
} from './control-layout.ts';

/** What a control object says about its owner; never changes. */
export interface ControlHeader {
  readonly token: string;
  readonly owner: ProcessIdentity;
  readonly tag: number;
}

/** @returns undefined when the bytes are not the start of a control object */
export function decodeHeader(bytes: Buffer): ControlHeader | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  if (!bytes.subarray(MAGIC_AT, MAGIC_AT + CONTROL_MAGIC.length).equals(CONTROL_MAGIC)) {
    return undefined;
  }
  return {
    token: bytes.toString('hex', TOKEN_AT, TOKEN_AT + TOKEN_BYTES),
    owner: {
      pid: bytes.readUInt32LE(PID_AT),
      startTime: bytes.readDoubleLE(START_TIME_AT),
      namespace: bytes.readDoubleLE(NAMESPACE_AT),
    },
    tag: bytes.readUInt32LE(TAG_AT),
  };
}
