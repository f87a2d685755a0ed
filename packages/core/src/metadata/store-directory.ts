import { systemClock } from '../base/clock.ts';
import { EngineError } from '../base/errors.ts';
import { invariant } from '../base/invariant.ts';
import { stripLeadingSlashes } from '../wire/metadata-keys.ts';
import { OpenCalls } from './open-calls.ts';
import { DeadBuffers } from './dead-buffers.ts';
import { MetadataClient, type MetadataClientOptions } from './metadata-client.ts';
import { SegmentWatches } from './segment-watches.ts';
import type {
  ControlAddress,
  DirectoryCallOptions,
  DraftSource,
  ResolvedSegment,
  SegmentDirectory,
} from './segment-directory.ts';

/** Segments find each other through a metadata store. Closing it closes the store. */
export class StoreDirectory implements SegmentDirectory {
  readonly #options: MetadataClientOptions;
  readonly #client: MetadataClient;
  readonly #dead = new DeadBuffers();
  readonly #watches: SegmentWatches;
  readonly #calls = new OpenCalls();
  #closing: Promise<void> | undefined;

  constructor(options: MetadataClientOptions) {
    this.#options = options;
    this.#client = new MetadataClient(options);
    this.#watches = new SegmentWatches(options);
  }

  /**
   * The document is at `ram/<name>`, the address at `rpc_meta/<name in the document>`: a segment
   * can be opened under another name than its own.
   */
  async resolve(name: string, options?: DirectoryCallOptions): Promise<ResolvedSegment> {
    this.#assertOpen(`opening segment "${name}"`);
    return await this.#calls.run(options?.signal, (signal) =>
      this.#resolve(name, { ...options, signal }),
    );
  }

  async #resolve(name: string, options: DirectoryCallOptions): Promise<ResolvedSegment> {
    const key = stripLeadingSlashes(name);
    const { clock = systemClock } = this.#options;
    const startMs = clock.nowMs();
    const descriptor = await this.#client.fetchSegment(key, options);
    const own = descriptor.name === '' ? key : descriptor.name;
    const address = await this.#client.fetchRpcMeta(own, rest(options, clock.nowMs() - startMs));
    return { descriptor: this.#dead.without(key, descriptor, address.rpcPort), ...address };
  }

  watch(name: string, onChange: () => void): () => void {
    if (this.#closing !== undefined) return () => undefined;
    return this.#watches.add(stripLeadingSlashes(name), onChange);
  }

  async locate(name: string, options?: DirectoryCallOptions): Promise<ControlAddress> {
    this.#assertOpen(`looking up "${name}"`);
    return await this.#calls.run(options?.signal, (signal) =>
      this.#client.fetchRpcMeta(stripLeadingSlashes(name), { ...options, signal }),
    );
  }

  async announce(
    name: string,
    address: ControlAddress,
    options?: DirectoryCallOptions,
  ): Promise<void> {
    this.#assertOwn(name);
    this.#assertOpen(`announcing "${name}"`);
    await this.#client.publishRpcMeta(address, options);
  }

  async publish(draft: DraftSource, name: string, options?: DirectoryCallOptions): Promise<void> {
    this.#assertOwn(name);
    this.#assertOpen(`publishing segment "${name}"`);
    await this.#client.publishSegment(draft, options);
  }

  /** Both documents are tried, the address first, as C++ does; the first failure is reported. */
  async withdraw(options?: DirectoryCallOptions): Promise<void> {
    this.#assertOpen('withdrawing the segment');
    const results = [
      await settled(this.#client.withdrawRpcMeta(options)),
      await settled(this.#client.withdrawSegment(options)),
    ];
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  close(): Promise<void> {
    this.#calls.close(new EngineError('ERR_TE_CLOSED', 'finding a segment: the engine is closed'));
    this.#client.close();
    this.#watches.close();
    this.#closing ??= this.#options.store.close();
    return this.#closing;
  }

  #assertOwn(name: string): void {
    invariant(
      name === this.#options.name,
      'a store directory publishes the segment it was made for',
    );
  }

  #assertOpen(what: string): void {
    if (this.#closing === undefined) return;
    throw new EngineError('ERR_TE_CLOSED', `${what}: the engine is closed`);
  }
}

/** What is left of the caller's time for the second of two calls. */
function rest(
  options: DirectoryCallOptions | undefined,
  elapsedMs: number,
): DirectoryCallOptions | undefined {
  if (options?.timeoutMs === undefined) return options;
  return { ...options, timeoutMs: Math.max(1, options.timeoutMs - elapsedMs) };
}

async function settled(work: Promise<void>): Promise<PromiseSettledResult<void>> {
  const [result] = await Promise.allSettled([work]);
  return result;
}
