import { EngineError } from '../base/errors.ts';
import type { ControlClient } from '../control/control-client.ts';
import { OpenCalls } from '../metadata/open-calls.ts';
import type { ControlAddress, SegmentDirectory } from '../metadata/segment-directory.ts';
import type { Peer } from '../transport/transport.ts';
import type { HandshakeDocument, NotifyDocument, NotifyOutcome } from '../wire/index.ts';
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

/** Capability of engines that read ids and outcomes of notifications. */
export const NOTIFY_CAPABILITY = 'notify.1';
const NOTIFY_ATTEMPTS = 3;

/** The answer did not come, and the question may have arrived. */
function isLost(error: unknown): boolean {
  return error instanceof EngineError && error.code === 'ERR_TE_PEER_LOST';
}

/** What is known of peers whose segments are open. */
export interface OpenPeers {
  find(name: string): ControlAddress | undefined;
  /** Extensions that the peer understands; none for peers that are not open. */
  capabilities(name: string): readonly string[];
}

/** Messages to the control ports of peers, which are named by their segments. */
export class ControlCalls {
  readonly #directory: SegmentDirectory;
  readonly #client: ControlClient;
  readonly #peers: OpenPeers;
  readonly #identity: () => { readonly instance: string; readonly segment: string };
  readonly #calls = new OpenCalls();
  #sequence = 0;

  constructor(
    directory: SegmentDirectory,
    client: ControlClient,
    peers: OpenPeers,
    identity: () => { readonly instance: string; readonly segment: string },
  ) {
    this.#directory = directory;
    this.#client = client;
    this.#peers = peers;
    this.#identity = identity;
  }

  /**
   * Sends a notification.
   *
   * A peer of our own kind gets an id with it and takes it once, however often it is sent; so it is
   * sent again when the answer is lost. To others it is only sent again when it surely did not
   * arrive.
   */
  notify(
    name: string,
    content: NotificationContent,
    outcome: NotifyOutcome | undefined,
    given: OpenOptions,
  ): Promise<void> {
    return this.#calls.run(given.signal, (signal) =>
      this.#notify(name, content, outcome, { ...given, signal }),
    );
  }

  async #notify(
    name: string,
    content: NotificationContent,
    outcome: NotifyOutcome | undefined,
    options: OpenOptions,
  ): Promise<void> {
    const understands = this.#peers.capabilities(name).includes(NOTIFY_CAPABILITY);
    if (outcome !== undefined && outcome !== 'completed' && !understands) return;
    const document: NotifyDocument = { name: content.name, message: content.message };
    if (!understands) {
      await this.#call(name, options, ({ host, rpcPort }) =>
        this.#client.notify(host, rpcPort, document, options),
      );
      return;
    }
    this.#sequence += 1;
    const { instance, segment } = this.#identity();
    const extras = { instance, sequence: this.#sequence, segment };
    const marked = { ...document, extras: outcome === undefined ? extras : { ...extras, outcome } };
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#call(name, options, ({ host, rpcPort }) =>
          this.#client.notify(host, rpcPort, marked, options),
        );
        return;
      } catch (error) {
        if (attempt >= NOTIFY_ATTEMPTS || !isLost(error)) throw error;
      }
    }
  }

  /** False when nobody answers; errors of the directory itself are thrown. */
  async probe(name: string, given: OpenOptions): Promise<boolean> {
    try {
      await this.#calls.run(given.signal, (signal) => {
        const options = { ...given, signal };
        return this.#call(name, options, ({ host, rpcPort }) =>
          this.#client.probe(host, rpcPort, options),
        );
      });
      return true;
    } catch (error) {
      if (error instanceof EngineError && UNREACHABLE.has(error.code)) return false;
      throw error;
    }
  }

  handshake(
    peer: Peer,
    message: HandshakeDocument,
    given?: AbortSignal,
  ): Promise<HandshakeDocument> {
    return this.#calls.run(given, (signal) =>
      this.#call(peer.descriptor.name, { signal }, ({ host, rpcPort }) =>
        this.#client.handshake(host, rpcPort, message, { signal }),
      ),
    );
  }

  /** Ends what waits for an answer, and refuses what comes. */
  close(reason: EngineError): void {
    this.#calls.close(reason);
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
    const known = this.#peers.find(name);
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
