import { EngineError } from '../base/errors.ts';
import type { ControlClient } from '../control/control-client.ts';
import type { ControlAddress, SegmentDirectory } from '../metadata/segment-directory.ts';
import type { Peer } from '../transport/transport.ts';
import type { HandshakeDocument } from '../wire/index.ts';
import type { NotificationContent, OpenOptions } from './engine-api.ts';

/** Errors that say that nobody answers at the peer's control port. */
const UNREACHABLE: ReadonlySet<string> = new Set([
  'ERR_TE_CONNECT_FAILED',
  'ERR_TE_DNS',
  'ERR_TE_TIMEOUT',
  'ERR_TE_PEER_LOST',
  'ERR_TE_PROTOCOL',
  'ERR_TE_MALFORMED_JSON',
  'ERR_TE_SEGMENT_NOT_FOUND',
]);

/** Messages to the control ports of peers, which are named by their segments. */
export class ControlCalls {
  readonly #directory: SegmentDirectory;
  readonly #client: ControlClient;
  readonly #opened: (name: string) => ControlAddress | undefined;

  /** @param opened the address of a segment that is open, so that it need not be looked up. */
  constructor(
    directory: SegmentDirectory,
    client: ControlClient,
    opened: (name: string) => ControlAddress | undefined,
  ) {
    this.#directory = directory;
    this.#client = client;
    this.#opened = opened;
  }

  async notify(name: string, content: NotificationContent, options: OpenOptions): Promise<void> {
    await this.#call(name, options, ({ host, rpcPort }) =>
      this.#client.notify(host, rpcPort, content, options),
    );
  }

  /** False when nobody answers; errors of the directory itself are thrown. */
  async probe(name: string, options: OpenOptions): Promise<boolean> {
    try {
      await this.#call(name, options, ({ host, rpcPort }) =>
        this.#client.probe(host, rpcPort, options),
      );
      return true;
    } catch (error) {
      if (error instanceof EngineError && UNREACHABLE.has(error.code)) return false;
      throw error;
    }
  }

  handshake(
    peer: Peer,
    message: HandshakeDocument,
    signal?: AbortSignal,
  ): Promise<HandshakeDocument> {
    const options = signal === undefined ? {} : { signal };
    return this.#call(peer.descriptor.name, options, ({ host, rpcPort }) =>
      this.#client.handshake(host, rpcPort, message, options),
    );
  }

  /**
   * Tries the address that is known from an open segment, and looks again when nobody is there:
   * an engine that was restarted listens on another port.
   */
  async #call<T>(
    name: string,
    options: OpenOptions,
    run: (address: ControlAddress) => Promise<T>,
  ): Promise<T> {
    const known = this.#opened(name);
    if (known === undefined) return run(await this.#directory.locate(name, options));
    try {
      return await run(known);
    } catch (error) {
      if (!(error instanceof EngineError) || error.code !== 'ERR_TE_CONNECT_FAILED') throw error;
      const current = await this.#directory.locate(name, options);
      if (current.host === known.host && current.rpcPort === known.rpcPort) throw error;
      return run(current);
    }
  }
}
