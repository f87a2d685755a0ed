import { EngineError } from '../base/errors.ts';
import {
  decodeHandshake,
  emptyHandshake,
  encodeHandshake,
  type HandshakeDocument,
} from '../wire/handshake-document.ts';
import { FrameType } from '../wire/handshake-frame.ts';
import { parseJson64, type Json64 } from '../wire/json64.ts';
import {
  decodeNotify,
  encodeNotifyReply,
  encodeProbeReply,
  type NotifyDocument,
} from '../wire/notify-document.ts';
import type { NotifyInbox } from './notify-inbox.ts';
import type { ReceivedIds } from './received-ids.ts';

/** Answers connection handshakes; a thrown error becomes a refusal with its message. */
export type AcceptHandshake = (
  request: HandshakeDocument,
) => HandshakeDocument | Promise<HandshakeDocument>;

export interface ControlHandlerDeps {
  /** The own segment's document as JSON text, with a fresh timestamp; undefined before there is one. */
  ownDocument(): string | undefined;
  readonly inbox: NotifyInbox<NotifyDocument>;
  /** Notifications that were taken, so that one which is sent twice arrives once. */
  readonly received: ReceivedIds;
  /** Without it the answer is empty, as from an engine that has no transport to connect. */
  readonly acceptHandshake?: AcceptHandshake;
}

export interface ControlReply {
  /** JSON text of an object. */
  readonly json: string;
  /** Why the answer is a refusal; for counters and logs. */
  readonly refusal?: EngineError;
}

/** Answers one message. A rejection means that no answer may be given. */
export type ControlHandler = (type: FrameType, text: string) => Promise<ControlReply>;

/**
 * What each kind of message is answered with.
 *
 * Text that is no JSON is answered with nothing (the promise rejects with `ERR_TE_MALFORMED_JSON`).
 * Everything else gets a JSON object of its own kind: wrong members, a full inbox and errors of the
 * handshake hook become refusals that a C++ sender recognises (an empty `notify_msg`, a filled
 * `reply_msg`). C++'s `null` for errors is never sent: readers differ on it.
 * Source: Mooncake 3b5a594, src/transfer_metadata.cpp (startHandshakeDaemon, receivePeer*).
 */
export function createControlHandler(deps: ControlHandlerDeps): ControlHandler {
  return async (type, text) => {
    switch (type) {
      case FrameType.metadata:
        return answerMetadata(deps, text);
      case FrameType.notify:
        return answerNotify(deps, text);
      case FrameType.probe:
        parseRequest(text);
        return { json: encodeProbeReply() };
      case FrameType.connection:
        return await answerConnection(deps, text);
    }
  };
}

/** The requester's document must be JSON and is not used: C++'s responder ignores it as well. */
function answerMetadata(deps: ControlHandlerDeps, text: string): ControlReply {
  parseRequest(text);
  try {
    const own = deps.ownDocument();
    // An empty object has no protocol: every reader refuses to open it, none falls over it.
    return { json: own ?? '{}' };
  } catch (error) {
    return { json: '{}', refusal: EngineError.from(error, 'ERR_TE_INTERNAL', 'own document') };
  }
}

function answerNotify(deps: ControlHandlerDeps, text: string): ControlReply {
  try {
    const notification = decodeNotify(parseRequest(text));
    const { extras } = notification;
    // Sent again because the first answer was lost: it is taken already.
    if (extras !== undefined && deps.received.has(extras.instance, extras.sequence)) {
      return { json: encodeNotifyReply(true) };
    }
    if (deps.inbox.push(notification)) {
      if (extras !== undefined) deps.received.add(extras.instance, extras.sequence);
      return { json: encodeNotifyReply(true) };
    }
    const refusal = new EngineError(
      'ERR_TE_TOO_MANY_REQUESTS',
      `a notification was refused: ${deps.inbox.size} wait in the inbox; take them more often, or ` +
        'raise limits.inboxNotifications',
      { details: { waiting: deps.inbox.size } },
    );
    return { json: encodeNotifyReply(false), refusal };
  } catch (error) {
    return { json: encodeNotifyReply(false), refusal: refusalOf(error) };
  }
}

async function answerConnection(deps: ControlHandlerDeps, text: string): Promise<ControlReply> {
  try {
    const request = decodeHandshake(parseRequest(text));
    const reply = (await deps.acceptHandshake?.(request)) ?? emptyHandshake();
    return { json: encodeHandshake(reply) };
  } catch (error) {
    const refusal = refusalOf(error);
    const json = encodeHandshake({
      ...emptyHandshake(),
      replyMessage: wellFormed(refusal.message),
    });
    return { json, refusal };
  }
}

/**
 * Requests up to this length are read as tolerantly as C++ reads them. Longer ones must be JSON by
 * the letter, which all engines write: the platform's parser is many times faster, so that nobody
 * can hold up the event loop with them. Its numbers are exact to 53 bits, and no request has a
 * member that needs more.
 */
const TOLERANT_CHARACTERS = 16 * 1024;

function parseRequest(text: string): Json64 {
  const value = text.length <= TOLERANT_CHARACTERS ? parseJson64(text) : parseStrictly(text);
  // Decoders take text for a document that is still to be parsed; as a root it is no request.
  return typeof value === 'string' ? [value] : value;
}

function parseStrictly(text: string): Json64 {
  try {
    return JSON.parse(text) as Json64;
  } catch (error) {
    throw EngineError.from(
      error,
      'ERR_TE_MALFORMED_JSON',
      `a request of ${text.length} characters`,
    );
  }
}

/** Passes malformed JSON on: that is the one case without an answer. */
function refusalOf(error: unknown): EngineError {
  if (error instanceof EngineError && error.code === 'ERR_TE_MALFORMED_JSON') throw error;
  return EngineError.from(error);
}

/** A message may quote text of the peer; half a character would not survive the encoder. */
function wellFormed(text: string): string {
  return text.replace(/[\ud800-\udfff]/gu, '\ufffd') || 'refused';
}
