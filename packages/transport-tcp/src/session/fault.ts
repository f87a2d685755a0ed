import { EngineError, Outcome, type ErrorCode } from '@transfer-engine/core/transport';

/** How a slice ended other than well, and the error that tells it. */
export interface Fault {
  readonly outcome: Outcome;
  readonly error: EngineError | undefined;
}

/** The slice that an error speaks of. */
export interface FaultSubject {
  readonly isRead: boolean;
  readonly length: number;
  readonly addressLow: number;
  readonly addressHigh: number;
  /** Bytes that are known to have reached their destination. */
  readonly bytesDone: number;
}

export const REPLAY: Fault = { outcome: Outcome.replay, error: undefined };

/** Writes the errors of one peer. */
export class FaultWriter {
  readonly #peer: string;

  /** @param peer "host:port" */
  constructor(peer: string) {
    this.#peer = peer;
  }

  /** The peer answered that the address is outside its memory or not permitted. */
  rejected(subject: FaultSubject): Fault {
    return this.#make(
      Outcome.rejected,
      'ERR_TE_ADDRESS_REJECTED',
      `${this.#name(subject)} was refused by its TCP target; no single registered buffer of the ` +
        'peer covers the range with this access. Refresh the segment and check address and length',
      subject,
    );
  }

  peerLost(subject: FaultSubject | undefined, how: string, cause?: unknown): Fault {
    return this.#make(
      Outcome.peerLost,
      'ERR_TE_PEER_LOST',
      `${this.#name(subject)}: ${how}; the transfer can be submitted again`,
      subject,
      cause,
    );
  }

  /** The engine that the document describes is gone, and another one answers. */
  restarted(): Fault {
    return this.#make(
      Outcome.peerLost,
      'ERR_TE_PEER_LOST',
      `${this.#name(undefined)}: the peer was restarted; its memory has new addresses. Open its ` +
        'segment again',
      undefined,
    );
  }

  /** Bytes changed on their way. */
  corrupt(subject: FaultSubject): Fault {
    return this.#make(
      Outcome.corrupt,
      'ERR_TE_INTEGRITY',
      `${this.#name(subject)}: the bytes ${rangeOf(subject)} did not arrive as they were sent ` +
        '(CRC-32 differs); the destination holds garbage',
      subject,
    );
  }

  /** A checksum was asked for, and the peer turns out not to know any. */
  unchecked(subject: FaultSubject): Fault {
    return this.#make(
      Outcome.protocolError,
      'ERR_TE_PROTOCOL',
      `${this.#name(subject)}: the peer does not understand checksums, although its document ` +
        'says so; refresh the segment, or transfer without integrity',
      subject,
    );
  }

  /** The connection was given up, and nobody can say what the peer still does. */
  unproved(subject: FaultSubject): Fault {
    return this.#make(
      Outcome.timeout,
      'ERR_TE_TIMEOUT',
      `${this.#name(subject)}: its connection was given up, and the peer did not confirm in time ` +
        'that it applies nothing more; it is not sent again, because old and new bytes would race',
      subject,
    );
  }

  protocol(subject: FaultSubject | undefined, what: string): Fault {
    return this.#make(
      Outcome.protocolError,
      'ERR_TE_PROTOCOL',
      `${this.#name(subject)}: ${what}. The peer does not speak the framing that its document ` +
        'promises; refresh the segment, or force the older framing with MC_TCP_PROTO=1',
      subject,
    );
  }

  timeout(subject: FaultSubject | undefined, what: string): Fault {
    return this.#make(
      Outcome.timeout,
      'ERR_TE_TIMEOUT',
      `${this.#name(subject)}: ${what}; the peer or the network between hangs`,
      subject,
    );
  }

  connectFailed(code: ErrorCode, reason: string, cause?: unknown): Fault {
    return this.#make(
      Outcome.connectFailed,
      code,
      `no TCP connection to ${this.#peer}: ${reason}; check that the peer runs and that its data ` +
        'port can be reached from here',
      undefined,
      cause,
    );
  }

  canceled(): Fault {
    return this.#make(
      Outcome.canceled,
      'ERR_TE_CANCELED',
      `a transfer with ${this.#peer} was canceled`,
      undefined,
    );
  }

  closed(): Fault {
    return this.#make(
      Outcome.canceled,
      'ERR_TE_CLOSED',
      `the TCP transport was closed before a transfer with ${this.#peer} had ended`,
      undefined,
    );
  }

  memoryLost(subject: FaultSubject): Fault {
    return this.#make(
      Outcome.localFault,
      'ERR_TE_MEMORY',
      `${this.#name(subject)}: the local memory cannot be reached (its ArrayBuffer was ` +
        'transferred, or it is not memory of this process)',
      subject,
    );
  }

  internal(thrown: unknown): Fault {
    return {
      outcome: Outcome.localFault,
      error: EngineError.from(thrown, 'ERR_TE_INTERNAL', `a connection to ${this.#peer} failed`),
    };
  }

  #make(
    outcome: Outcome,
    code: ErrorCode,
    message: string,
    subject: FaultSubject | undefined,
    cause?: unknown,
  ): Fault {
    const about =
      subject === undefined
        ? {}
        : {
            address: addressOf(subject),
            length: subject.length,
            bytesDone: subject.bytesDone,
            operation: subject.isRead ? 'read' : 'write',
          };
    const details = { peer: this.#peer, transport: 'tcp', ...about };
    return { outcome, error: new EngineError(code, message, { details, cause }) };
  }

  #name(subject: FaultSubject | undefined): string {
    if (subject === undefined) return `the connection to ${this.#peer}`;
    const verb = subject.isRead ? 'READ' : 'WRITE';
    const done =
      subject.bytesDone > 0 ? ` (${subject.bytesDone} bytes are at their destination)` : '';
    return (
      `${verb} of ${subject.length} bytes at address 0x${addressOf(subject).toString(16)} ` +
      `of ${this.#peer}${done}`
    );
  }
}

/** The range of addresses, its end excluded. */
function rangeOf(subject: FaultSubject): string {
  const from = addressOf(subject);
  return `[0x${from.toString(16)}, 0x${(from + BigInt(subject.length)).toString(16)})`;
}

function addressOf(subject: FaultSubject): bigint {
  return (BigInt(subject.addressHigh) << 32n) | BigInt(subject.addressLow);
}
