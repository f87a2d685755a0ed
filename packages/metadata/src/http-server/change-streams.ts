import type { ServerResponse } from 'node:http';
import type { Change } from './document-table.ts';

/** Values that travel with the news; of larger ones only the fact that they changed. */
const NEWS_BYTES_MAX = 64 * 1024;
/** A reader that is this far behind is sent away; it comes back and looks for itself. */
const BACKLOG_BYTES_MAX = 8 * 1024 * 1024;
const HEARTBEAT_MS = 10_000;

/** Clients that are told of changes of keys, by server-sent events. */
export class ChangeStreams {
  readonly #readers = new Map<string, Set<ServerResponse>>();
  readonly #open = new Set<ServerResponse>();
  #heartbeat: NodeJS.Timeout | undefined;

  /** Answers with a stream of events that ends with the connection or the server. */
  add(response: ServerResponse, keys: readonly string[], headers: Record<string, string>): void {
    response.writeHead(200, {
      ...headers,
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      connection: 'close',
    });
    for (const key of keys) {
      const readers = this.#readers.get(key);
      if (readers === undefined) this.#readers.set(key, new Set([response]));
      else readers.add(response);
    }
    this.#open.add(response);
    response.on('close', () => this.#forget(response, keys));
    response.on('error', () => response.destroy());
    response.write('event: ready\ndata: {}\n\n');
    this.#heartbeat ??= setInterval(() => {
      for (const reader of this.#open) this.#write(reader, ': still here\n\n');
    }, HEARTBEAT_MS).unref();
  }

  tell(change: Change): void {
    const readers = this.#readers.get(change.key);
    if (readers === undefined) return;
    const text = toEvent(change);
    for (const reader of readers) this.#write(reader, text);
  }

  close(): void {
    clearInterval(this.#heartbeat);
    for (const response of this.#open) response.destroy();
  }

  #write(response: ServerResponse, text: string): void {
    response.write(text);
    if (response.writableLength > BACKLOG_BYTES_MAX) response.destroy();
  }

  #forget(response: ServerResponse, keys: readonly string[]): void {
    this.#open.delete(response);
    for (const key of keys) {
      const readers = this.#readers.get(key);
      readers?.delete(response);
      if (readers?.size === 0) this.#readers.delete(key);
    }
    if (this.#open.size > 0) return;
    clearInterval(this.#heartbeat);
    this.#heartbeat = undefined;
  }
}

function toEvent(change: Change): string {
  const { type, key } = change;
  const small = change.type === 'put' && change.document.value.length <= NEWS_BYTES_MAX;
  const text = small ? change.document.value.toString('utf8') : undefined;
  // Bytes that are no text cannot be told in JSON; readers fetch them.
  const value = text?.includes('\ufffd') === true ? undefined : text;
  return `event: ${type}\ndata: ${JSON.stringify({ key, value })}\n\n`;
}
