import { integer, text } from './exact-members.ts';
import { MemberReader } from './json-members.ts';
import type { Json64 } from './json-value.ts';
import { stringifyJson64 } from './stringify-json64.ts';

/** Version of `x_te` that is written. */
const EXTRAS_VERSION = 1;

/** How the transfer ended that a notification belongs to. */
export type NotifyOutcome = 'completed' | 'failed' | 'canceled';
const OUTCOMES: readonly string[] = ['completed', 'failed', 'canceled'];

/** What only our own engines write and read (member `x_te`); all others skip it. */
export interface NotifyExtras {
  /** Instance of the sender; together with `sequence` the id of the notification. */
  readonly instance: string;
  /** Counts up from 1 in each sender; the same for every attempt to send one notification. */
  readonly sequence: number;
  /** Segment of the sender. */
  readonly segment: string;
  /** Absent when the notification belongs to no transfer. */
  readonly outcome?: NotifyOutcome;
}

/** A message between engines; both parts are free text. */
export interface NotifyDocument {
  readonly name: string;
  readonly message: string;
  readonly extras?: NotifyExtras;
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
    ...(document.extras !== undefined && { x_te: extrasMember(document.extras) }),
  });
}

function extrasMember({ instance, sequence, segment, outcome }: NotifyExtras): Json64 {
  return {
    v: EXTRAS_VERSION,
    id: [
      text(instance, 'extras.instance'),
      integer(sequence, 1, Number.MAX_SAFE_INTEGER, 'extras.sequence'),
    ],
    segment: text(segment, 'extras.segment'),
    ...(outcome !== undefined && { outcome: text(outcome, 'extras.outcome') }),
  };
}

/** @throws EngineError `ERR_TE_MALFORMED_JSON`, or `ERR_TE_PROTOCOL` naming the member. */
export function decodeNotify(input: Json64): NotifyDocument {
  const members = MemberReader.root(input, 'notify message', 'ERR_TE_PROTOCOL');
  const document = { name: members.string('name'), message: members.string('notify_msg') };
  const extras = members.has('x_te') ? decodeExtras(members.raw('x_te')) : undefined;
  return extras === undefined ? document : { ...document, extras };
}

/** Undefined for anything that is not as our engines write it: the rest is a plain notification. */
function decodeExtras(member: Json64): NotifyExtras | undefined {
  if (typeof member !== 'object' || member === null || Array.isArray(member)) return undefined;
  const { v, id, segment, outcome } = member;
  if (typeof v !== 'number' || v < 1 || !Array.isArray(id) || typeof segment !== 'string') {
    return undefined;
  }
  const [instance, sequence] = id;
  if (typeof instance !== 'string' || instance === '' || typeof sequence !== 'number')
    return undefined;
  if (!Number.isSafeInteger(sequence) || sequence < 1) return undefined;
  if (outcome === undefined) return { instance, sequence, segment };
  if (typeof outcome !== 'string' || !OUTCOMES.includes(outcome)) return undefined;
  return { instance, sequence, segment, outcome: outcome as NotifyOutcome };
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
