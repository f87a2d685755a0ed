import { createEngine, type Engine } from '@transfer-engine/core';
import {
  decodeRpcMeta,
  decodeSegmentDocument,
  formatHostPort,
  metadataKeys,
  type RpcMetaDocument,
} from '@transfer-engine/core/wire';
import type { BoundedStore } from './store-command.ts';

/** What a store says about one engine. */
export interface SurveyedEngine {
  readonly name: string;
  readonly rpcMetaKey: string;
  readonly segmentKey: string;
  /** The texts of both keys; undefined for one that is not there. */
  readonly rpcMeta: string | undefined;
  readonly segment: string | undefined;
}

/** Engines probed at the same time. */
const PROBES = 32;
/** One probe of a living engine may be lost; all of these are not. */
const ATTEMPTS = 2;

/** Engines that left documents in a store, found by their keys. */
export async function surveyEngines(
  { store, options, list }: BoundedStore,
  clusterId: string | undefined,
): Promise<SurveyedEngine[]> {
  const keys = metadataKeys(clusterId);
  const [places, segments] = [keys.rpcMeta(''), keys.segment('')];
  const found = await Promise.all(
    [places, segments].map(async (prefix) =>
      (await list(prefix)).map((key) => key.slice(prefix.length)),
    ),
  );
  const names = [...new Set(found.flat())].filter((name) => name !== '').sort();
  return await inParallel(names, async (name) => {
    const [rpcMetaKey, segmentKey] = [keys.rpcMeta(name), keys.segment(name)];
    const [rpcMeta, segment] = await Promise.all([
      store.get(rpcMetaKey, options),
      store.get(segmentKey, options),
    ]);
    return { name, rpcMetaKey, segmentKey, rpcMeta, segment };
  });
}

/** Where the control port of an engine is, as far as the store says. */
export function placeOf({ rpcMeta }: SurveyedEngine): RpcMetaDocument | 'missing' | 'illegible' {
  try {
    return rpcMeta === undefined ? 'missing' : decodeRpcMeta(rpcMeta);
  } catch {
    return 'illegible';
  }
}

/** A few words about a segment's document. */
export function describeSegment(text: string | undefined): string {
  if (text === undefined) return 'no segment';
  try {
    const document = decodeSegmentDocument(text);
    const protocol =
      document.protocol === 'multi' ? document.protocols.join(',') : document.protocol;
    return `${protocol}, ${document.buffers.length} buffers`;
  } catch {
    return 'malformed';
  }
}

/** Asks control ports whether somebody is there. */
export class Prober implements AsyncDisposable {
  readonly #engine: Engine;
  readonly #timeoutMs: number;

  private constructor(engine: Engine, timeoutMs: number) {
    this.#engine = engine;
    this.#timeoutMs = timeoutMs;
  }

  /** In P2P mode, so nothing of the prober gets into any store. */
  static async start(timeoutMs: number): Promise<Prober> {
    return new Prober(await createEngine({ name: '127.0.0.1', environment: {} }), timeoutMs);
  }

  async isAlive({ host, rpcPort }: RpcMetaDocument): Promise<boolean> {
    const name = formatHostPort(host, rpcPort);
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      if (await this.#engine.probe(name, { timeoutMs: this.#timeoutMs })) return true;
    }
    return false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engine.close();
  }
}

export async function inParallel<T, R>(
  items: readonly T[],
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) {
      results[index] = await work(items[index] as T);
    }
  };
  await Promise.all(Array.from({ length: Math.min(PROBES, items.length) }, worker));
  return results;
}
