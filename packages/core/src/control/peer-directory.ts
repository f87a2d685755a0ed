import { EngineError, invalidArgument } from '../base/errors.ts';
import { silentLogger, type Logger } from '../base/logger.ts';
import type { OwnDocument } from '../metadata/own-document.ts';
import type {
  ControlAddress,
  DirectoryCallOptions,
  DraftSource,
  ResolvedSegment,
  SegmentDirectory,
} from '../metadata/segment-directory.ts';
import { stripLeadingSlashes } from '../wire/metadata-keys.ts';
import { parseServerName } from '../wire/server-name.ts';
import type { ControlClient } from './control-client.ts';

export interface PeerDirectoryOptions {
  readonly client: ControlClient;
  /** What we tell peers about us, and answer when they ask. */
  readonly document: OwnDocument;
  /** Of names without a port. Default 12001 (`MC_HANDSHAKE_PORT`). */
  readonly defaultPort?: number;
  readonly logger?: Logger;
}

/** Source: Mooncake 3b5a594, include/config.h (handshake_port). */
export const DEFAULT_HANDSHAKE_PORT = 12_001;

/**
 * P2PHANDSHAKE: the name of a segment is the address of its engine's control port, and the engine
 * itself is asked. Nothing is published anywhere.
 */
export class PeerDirectory implements SegmentDirectory {
  readonly #options: PeerDirectoryOptions;
  readonly #running = new Set<AbortController>();
  #closed = false;

  constructor(options: PeerDirectoryOptions) {
    this.#options = options;
  }

  /**
   * The address that was dialled stands in the result, whatever name the peer gives itself: an
   * engine started as "localhost" is reachable from other hosts only by the name it was opened by.
   */
  async resolve(name: string, options: DirectoryCallOptions = {}): Promise<ResolvedSegment> {
    const { host, rpcPort } = this.#parse(name);
    const { client, document } = this.#options;
    if (this.#closed) throw closedError(name);
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(options.signal?.reason);
    if (options.signal?.aborted === true) onAbort();
    options.signal?.addEventListener('abort', onAbort, { once: true });
    this.#running.add(controller);
    try {
      const bounds = { ...options, signal: controller.signal };
      const own = document.text() ?? '{}';
      const descriptor = await client.fetchSegment(host, rpcPort, own, bounds);
      return { descriptor, host, rpcPort };
    } finally {
      this.#running.delete(controller);
      options.signal?.removeEventListener('abort', onAbort);
    }
  }

  async locate(name: string): Promise<ControlAddress> {
    return await Promise.resolve(this.#parse(name));
  }

  announce(): Promise<void> {
    return Promise.resolve();
  }

  /** Peers that ask from now on get this description. */
  publish(draft: DraftSource, name: string): Promise<void> {
    this.#options.document.publish(draft, name);
    return Promise.resolve();
  }

  withdraw(): Promise<void> {
    this.#options.document.withdraw();
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#closed = true;
    for (const controller of this.#running) controller.abort(closedError('a segment'));
    return Promise.resolve();
  }

  #parse(name: string): ControlAddress {
    const { defaultPort = DEFAULT_HANDSHAKE_PORT, logger = silentLogger } = this.#options;
    const { host, port, ignoredPort } = parseServerName(stripLeadingSlashes(name), defaultPort);
    if (host === '') throw invalidArgument('segment name', name, 'host:port of a control port');
    if (ignoredPort !== undefined)
      logger.warn({ name, port }, 'no port number in the name of a segment: the default is used');
    return { host, rpcPort: port };
  }
}

function closedError(name: string): EngineError {
  return new EngineError('ERR_TE_CLOSED', `opening ${name}: the engine is closed`);
}
