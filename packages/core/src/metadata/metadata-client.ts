import { systemClock, type Clock } from '../base/clock.ts';
import { EngineError, type ErrorDetails } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Random } from '../base/random.ts';
import type { SegmentDescriptor } from '../segment/segment-descriptor.ts';
import { decodeSegmentDocument } from '../wire/decode-segment-document.ts';
import { encodeSegmentDocument, formatTimestamp } from '../wire/encode-segment-document.ts';
import { withNewline } from '../wire/json64.ts';
import { metadataKeys, type MetadataKeys } from '../wire/metadata-keys.ts';
import { decodeRpcMeta, encodeRpcMeta } from '../wire/rpc-meta-document.ts';
import { GRACE_MS, withinBounds } from './bounded-call.ts';
import { boundedWait } from './bounded-wait.ts';
import {
  toSegmentDescriptor,
  toSegmentDocument,
  type EngineIdentity,
} from './descriptor-mapping.ts';
import { DocumentKeeper } from './document-keeper.ts';
import { LatestWriter } from './latest-writer.ts';
import type { MetadataStore } from './metadata-store.ts';
import {
  draftOf,
  type ControlAddress,
  type DirectoryCallOptions,
  type DraftSource,
} from './segment-directory.ts';

export interface MetadataClientOptions {
  readonly store: MetadataStore;
  /** Name of the own segment, and of the own engine. */
  readonly name: string;
  readonly identity: EngineIdentity;
  /** `MC_METADATA_CLUSTER_ID` */
  readonly clusterId?: string;
  /** Leaves `x_te` out of the document. */
  readonly strict?: boolean;
  /** For one call on the store, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly logger?: Logger;
  /** For the documents' timestamps. */
  readonly now?: () => Date;
}

/**
 * The documents of one engine in a metadata store, and those of its peers.
 *
 * Publications of one document follow each other and are joined, see {@link LatestWriter}: a
 * thousand regions registered together cost two writes, and nobody's state is lost. What is
 * published is kept in the store, see {@link DocumentKeeper}. Source of keys and order: Mooncake
 * 3b5a594, src/transfer_metadata.cpp.
 */
export class MetadataClient {
  readonly #options: MetadataClientOptions;
  readonly #store: MetadataStore;
  readonly #keys: MetadataKeys;
  readonly #clock: Clock;
  readonly #keeper: DocumentKeeper;
  readonly #segmentWriter = new LatestWriter();
  readonly #rpcMetaWriter = new LatestWriter();

  constructor(options: MetadataClientOptions) {
    this.#options = options;
    this.#store = options.store;
    this.#keys = metadataKeys(options.clusterId);
    this.#clock = options.clock ?? systemClock;
    const { clock, random, logger } = options;
    this.#keeper = new DocumentKeeper({
      ...{ store: this.#store, timeoutMs: this.#timeoutMs, clock, random, logger },
    });
  }

  /**
   * Writes the own segment's document. A description without any protocol is not written.
   *
   * @throws EngineError `ERR_TE_METADATA`, `ERR_TE_TIMEOUT`; `ERR_TE_INVALID_ARGUMENT` for a
   * description that no reader would accept.
   */
  publishSegment(source: DraftSource, options?: DirectoryCallOptions): Promise<void> {
    const { name, identity, strict = false, now = () => new Date() } = this.#options;
    const write = async (): Promise<void> => {
      const document = toSegmentDocument(draftOf(source), { name, identity, strict });
      if (document === undefined) return;
      const json = encodeSegmentDocument(document, { timestamp: formatTimestamp(now()) });
      await this.#put(this.#keys.segment(name), json);
    };
    return this.#wait(this.#segmentWriter.request(write), 'publishing the segment', options);
  }

  /** Removes the own segment's document, if it was published. */
  withdrawSegment(options?: DirectoryCallOptions): Promise<void> {
    const write = async (): Promise<void> => {
      await this.#remove(this.#keys.segment(this.#options.name));
    };
    return this.#wait(this.#segmentWriter.request(write), 'withdrawing the segment', options);
  }

  /** Writes where the own control port is. */
  publishRpcMeta(address: ControlAddress, options?: DirectoryCallOptions): Promise<void> {
    const write = async (): Promise<void> => {
      await this.#put(this.#keys.rpcMeta(this.#options.name), encodeRpcMeta(address));
    };
    return this.#wait(this.#rpcMetaWriter.request(write), 'publishing the address', options);
  }

  /** Removes what {@link publishRpcMeta} wrote. */
  withdrawRpcMeta(options?: DirectoryCallOptions): Promise<void> {
    const write = async (): Promise<void> => {
      await this.#remove(this.#keys.rpcMeta(this.#options.name));
    };
    return this.#wait(this.#rpcMetaWriter.request(write), 'withdrawing the address', options);
  }

  /**
   * @throws EngineError `ERR_TE_SEGMENT_NOT_FOUND` when there is no such key, `ERR_TE_METADATA`
   * when the document is malformed or the store unreachable, `ERR_TE_TIMEOUT`.
   */
  fetchSegment(name: string, options?: DirectoryCallOptions): Promise<SegmentDescriptor> {
    return this.#fetch(this.#keys.segment(name), `segment "${name}"`, options, (text) =>
      toSegmentDescriptor(decodeSegmentDocument(text)),
    );
  }

  /** Errors as of {@link fetchSegment}. */
  fetchRpcMeta(name: string, options?: DirectoryCallOptions): Promise<ControlAddress> {
    return this.#fetch(
      this.#keys.rpcMeta(name),
      `the control address of "${name}"`,
      options,
      decodeRpcMeta,
    );
  }

  async #fetch<T>(
    key: string,
    what: string,
    options: DirectoryCallOptions | undefined,
    decode: (text: string) => T,
  ): Promise<T> {
    const bounds = { timeoutMs: this.#timeoutMs, ...options };
    const text = await withinBounds(this.#store, this.#clock, key, bounds, (inner) =>
      this.#store.get(key, inner),
    );
    const where = `key "${key}" of ${this.#store.description}`;
    const details: ErrorDetails = { key, store: this.#store.description };
    if (text === undefined)
      throw new EngineError(
        'ERR_TE_SEGMENT_NOT_FOUND',
        `${what} is not published: there is no ${where}; check its name, the cluster id and that ` +
          'its engine runs',
        { details },
      );
    try {
      return decode(text);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new EngineError(
        'ERR_TE_METADATA',
        `the document of ${what} at ${where} is malformed: ${reason}`,
        { cause: error, details },
      );
    }
  }

  #put(key: string, json: string): Promise<void> {
    const value = this.#store.trailingNewline === true ? withNewline(json) : json;
    return this.#keeper.put(key, value, { timeoutMs: this.#timeoutMs });
  }

  async #remove(key: string): Promise<void> {
    if (!this.#keeper.mayHave(key)) return;
    const timeoutMs = this.#timeoutMs;
    await withinBounds(this.#store, this.#clock, key, { timeoutMs }, (bounds) =>
      this.#keeper.remove(key, bounds),
    );
  }

  /** The caller's own bounds on a publication that others may share. */
  #wait(
    work: Promise<void>,
    what: string,
    options: DirectoryCallOptions | undefined,
  ): Promise<void> {
    // A publication waits for the one before it, at most.
    const timeoutMs = options?.timeoutMs ?? 2 * (this.#timeoutMs + GRACE_MS);
    return boundedWait(work, {
      signal: options?.signal,
      timeoutMs,
      clock: this.#clock,
      timeoutError: () => this.#timeoutError(`${what} "${this.#options.name}"`, timeoutMs),
    });
  }

  /** Ends the keeping of own documents. */
  close(): void {
    this.#keeper.close();
  }

  get #timeoutMs(): number {
    return this.#options.timeoutMs ?? 5_000;
  }

  #timeoutError(what: string, timeoutMs: number): EngineError {
    const store = this.#store.description;
    return new EngineError(
      'ERR_TE_TIMEOUT',
      `${what} was not finished by ${store} within ${timeoutMs} ms`,
      { details: { store, timeoutMs } },
    );
  }
}
