/** How far an aborted connection had come. Nothing is applied for it afterwards. */
export interface AbortFacts {
  /** Number of the first request that is not finished; all before it are. */
  readonly nextId: number;
  /** Finished requests that were not refused and not corrupt, since the connection began. */
  readonly served: number;
  /** The payload of that first request, a WRITE, was coming in. */
  readonly inProgress: boolean;
  /** Bytes of that payload that are in the region. */
  readonly appliedBytes: number;
}

export interface Abortable {
  /** Ends the connection at once. */
  abort(): AbortFacts;
}

/**
 * Connections of framing x1 by the token that names them. As large as there are connections: a
 * token is forgotten with its connection.
 */
export class TokenTable {
  readonly #byToken = new Map<string, Abortable>();

  get size(): number {
    return this.#byToken.size;
  }

  /** False when the token is taken. */
  open(token: string, connection: Abortable): boolean {
    if (this.#byToken.has(token)) return false;
    this.#byToken.set(token, connection);
    return true;
  }

  close(token: string): void {
    this.#byToken.delete(token);
  }

  /** Undefined when no connection has the token (any more). */
  abort(token: string): AbortFacts | undefined {
    const connection = this.#byToken.get(token);
    this.#byToken.delete(token);
    return connection?.abort();
  }
}
