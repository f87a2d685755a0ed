import { bytesOf, connectionsTo, type Vector } from './vectors.ts';

export interface MetadataRequest {
  readonly method: string;
  readonly key: string;
  readonly body: string;
}

export interface MetadataAnswer {
  readonly status: number;
  readonly body: string;
}

/** Requests of a recorded initiator to its metadata server, and what each was answered with. */
export function recordedMetadataExchanges(
  vector: Vector,
): { request: MetadataRequest; answer: MetadataAnswer }[] {
  const [connection] = connectionsTo(vector, 'metadata-server');
  if (connection === undefined) throw new Error(`${vector.name} has no metadata server`);
  const requests = parseMessages(bytesOf(connection, 'opener'));
  const answers = parseMessages(bytesOf(connection, 'listener'));
  return requests.map(({ start, body }, index) => {
    const [method = '', target = ''] = start.split(' ');
    const answer = answers[index];
    const status = Number(answer?.start.split(' ')[1]);
    return {
      request: { method, key: keyOf(target), body },
      answer: { status, body: answer?.body ?? '' },
    };
  });
}

/** The parameter `key` of a request target. */
export function keyOf(target: string): string {
  const key = new URL(target, 'http://127.0.0.1').searchParams.get('key');
  if (key === null) throw new Error(`no key in ${target}`);
  return key;
}

interface HttpMessage {
  readonly start: string;
  readonly body: string;
}

/** Messages of one direction of a connection; all bodies have a length, as in the recordings. */
function parseMessages(bytes: Buffer): HttpMessage[] {
  const messages: HttpMessage[] = [];
  for (let at = 0; at < bytes.length;) {
    const bodyAt = bytes.indexOf('\r\n\r\n', at) + 4;
    if (bodyAt < 4) throw new Error('an HTTP head without an end');
    const [start = '', ...headers] = bytes.toString('latin1', at, bodyAt).split('\r\n');
    const length = headers
      .map((header) => /^content-length: (\d+)$/i.exec(header)?.[1])
      .find((value) => value !== undefined);
    at = bodyAt + Number(length ?? 0);
    messages.push({ start, body: bytes.toString('utf8', bodyAt, at) });
  }
  return messages;
}
