import { text } from './exact-members.ts';
import { MemberReader } from './json-members.ts';
import type { Json64 } from './json-value.ts';
import { stringifyJson64 } from './stringify-json64.ts';

/** A message between engines; both parts are free text. */
export interface NotifyDocument {
  readonly name: string;
  readonly message: string;
}

export interface NotifyReply {
  /** Whether the peer has taken the notification. */
  readonly accepted: boolean;
  readonly message: string;
}

/** @remarks Source: Mooncake 3b5a594, src/transfer_metadata.cpp (sendNotify). */
export function encodeNotify(document: NotifyDocument): string {
  return stringifyJson64({
    name: text(document.name, 'name'),
    notify_msg: text(document.message, 'message'),
  });
}

/** @throws EngineError `ERR_TE_MALFORMED_JSON`, or `ERR_TE_PROTOCOL` naming the member. */
export function decodeNotify(input: Json64): NotifyDocument {
  const members = MemberReader.root(input, 'notify message', 'ERR_TE_PROTOCOL');
  return { name: members.string('name'), message: members.string('notify_msg') };
}

/**
 * What the receiver answers. C++ senders take an empty text for a failure, so that is how a
 * notification is refused.
 */
export function encodeNotifyReply(accepted = true): string {
  return encodeNotify({ name: '', message: accepted ? 'success' : '' });
}

/** @throws EngineError `ERR_TE_MALFORMED_JSON`, or `ERR_TE_PROTOCOL` naming the member. */
export function decodeNotifyReply(input: Json64): NotifyReply {
  const { message } = decodeNotify(input);
  return { accepted: message !== '', message };
}

/** Asks whether an engine is alive. Any well-formed answer of the same type says yes. */
export const encodeProbe = (): string => '{}';
export const encodeProbeReply = (): string => '{"status":"success"}';
