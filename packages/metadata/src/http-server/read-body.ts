import type { IncomingMessage } from 'node:http';

/** Bytes that all bodies which are being received may hold together. */
export class ReceiveBudget {
  readonly #maxBytes: number;
  #taken = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  take(bytes: number): boolean {
    if (this.#taken + bytes > this.#maxBytes) return false;
    this.#taken += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#taken -= bytes;
  }
}

export type BodyOutcome = Buffer | 'too-large' | 'no-room' | 'aborted';

/**
 * Collects the body of a request: at most `maxBytes`, and no more than the budget allows.
 *
 * `aborted` when the client went away before the end: what came so far is no document. What comes
 * after a refusal is read and dropped.
 */
export function readBody(
  request: IncomingMessage,
  maxBytes: number,
  budget: ReceiveBudget,
): Promise<BodyOutcome> {
  return new Promise((resolve) => {
    let chunks: Buffer[] = [];
    let bytes = 0;
    const finish = (outcome: BodyOutcome): void => {
      budget.give(bytes);
      bytes = 0;
      chunks = [];
      request.removeListener('data', onData);
      request.resume();
      resolve(outcome);
    };
    const onData = (chunk: Buffer): void => {
      if (bytes + chunk.length > maxBytes) return finish('too-large');
      if (!budget.take(chunk.length)) return finish('no-room');
      bytes += chunk.length;
      chunks.push(chunk);
    };
    request.on('data', onData);
    request.on('end', () => finish(Buffer.concat(chunks, bytes)));
    request.on('error', () => finish('aborted'));
    request.on('close', () => finish('aborted'));
  });
}
