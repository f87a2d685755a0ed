/** Plain counters of one TCP transport; a copy is what `stats()` returns. */
export class TcpCounters {
  connectionsOpened = 0;
  connectionsClosed = 0;
  connectFailures = 0;
  /** Bytes that this engine sent and received as initiator, framing included. */
  initiatorBytesOut = 0;
  initiatorBytesIn = 0;
  initiatorTimeouts = 0;
  initiatorRejections = 0;
  initiatorProtocolErrors = 0;
  /** Slices whose bytes did not have their checksum, as initiator and as target. */
  initiatorCorrupt = 0;
  corruptWrites = 0;
  /** Aborts sent to peers of our own kind, and those that were answered with how far it came. */
  abortsSent = 0;
  abortsAnswered = 0;
  /** Connections to other peers that were half-closed and waited for; and that came to their end. */
  retirements = 0;
  retirementsProved = 0;
  /** Connections that were given up without proof that the peer is at rest. */
  proofsMissed = 0;
  /** Peers whose document promised framing x1 and that did not speak it. */
  extendedFallbacks = 0;
  sessionsAccepted = 0;
  /** Sessions that became extended (framing x1), aborts that ended one, hellos for others. */
  extendedSessions = 0;
  abortsServed = 0;
  staleHellos = 0;
  sessionsOpen = 0;
  sessionsRefused = 0;
  /** Requests that peers completed here. */
  readsServed = 0;
  writesServed = 0;
  /** Requests refused: address, permission, length 0 or opcode. */
  requestsRefused = 0;
  /** Sessions ended because the peer was too slow. */
  sessionsExpired = 0;
  /** Sessions that ended in the middle of a request. */
  sessionsTruncated = 0;
  targetBytesOut = 0;
  targetBytesIn = 0;

  snapshot(): Readonly<Record<string, number>> {
    return Object.fromEntries(Object.entries(this) as [string, number][]);
  }
}
