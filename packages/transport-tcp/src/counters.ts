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
  sessionsAccepted = 0;
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
