import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { keyOf, type MetadataAnswer, type MetadataRequest } from './http-messages.ts';

/**
 * A metadata server that answers as the recorded one (Python) did and remembers what it was asked.
 * Source: Mooncake 3b5a594, mooncake-wheel/mooncake/http_metadata_server.py.
 */
export class RecordingMetadataServer {
  readonly requests: MetadataRequest[] = [];
  readonly documents = new Map<string, string>();
  readonly #server = createServer((request, response) => {
    this.#serve(request, response).catch(() => response.destroy());
  });

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/metadata`;
  }

  async listen(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { method = '' } = request;
    const asked = {
      method,
      key: keyOf(request.url ?? '/'),
      body: Buffer.concat(chunks).toString('utf8'),
    };
    this.requests.push(asked);
    const { status, body } = this.#answer(asked);
    response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' });
    response.end(body);
  }

  #answer({ method, key, body }: MetadataRequest): MetadataAnswer {
    const known = this.documents.get(key);
    switch (method) {
      case 'PUT':
        this.documents.set(key, body);
        return { status: 200, body: 'metadata updated' };
      case 'GET':
        return known === undefined
          ? { status: 404, body: 'metadata not found' }
          : { status: 200, body: known };
      case 'DELETE':
        this.documents.delete(key);
        return known === undefined
          ? { status: 404, body: 'metadata not found' }
          : { status: 200, body: 'metadata deleted' };
      default:
        return { status: 405, body: 'method not allowed' };
    }
  }
}
