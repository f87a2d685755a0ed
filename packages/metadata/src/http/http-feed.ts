import { NoFeed, type FeedEvents } from '../calls/key-watcher.ts';
import type { HttpClient } from './http-client.ts';

const EVENT_CHARACTERS_MAX = 1024 * 1024;

interface WatchRequest {
  readonly keys: readonly string[];
  readonly events: FeedEvents;
  readonly signal: AbortSignal;
}

/** Tells of changes by the server-sent events of our own server; others are asked nothing. */
export async function watchOverHttp(
  client: HttpClient,
  path: string,
  { keys, events, signal }: WatchRequest,
): Promise<void> {
  if (client.offers('watch') === false) throw new NoFeed('the server offers no watch');
  const body = JSON.stringify({ watch: keys });
  const headers = { accept: 'text/event-stream' };
  const stream = await client.stream({ method: 'POST', path, body, headers }, signal);
  if (client.offers('watch') !== true) throw new NoFeed('the server offers no watch');
  if (stream === undefined) throw new Error('the server refused the watch');
  for await (const { type, data } of eventsOf(stream)) {
    if (type === 'ready') events.ready();
    if (type !== 'put' && type !== 'remove') continue;
    const { key, value } = JSON.parse(data) as { key: string; value?: string };
    events.change(value === undefined ? { type, key } : { type, key, value });
  }
}

/** Server-sent events as our server writes them: one line for the type, one for the data. */
async function* eventsOf(
  stream: AsyncIterable<Buffer>,
): AsyncGenerator<{ readonly type: string; readonly data: string }> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > EVENT_CHARACTERS_MAX) throw new Error('an event has no end');
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const lines = text.slice(0, end).split('\n');
      text = text.slice(end + 2);
      const field = (name: string) =>
        lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      const type = field('event');
      if (type !== undefined) yield { type, data: field('data') ?? '{}' };
    }
  }
}
