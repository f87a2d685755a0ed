import { setMaxListeners } from 'node:events';
import {
  EngineError,
  RefreshedLease,
  type LeaseOptions,
  type MetadataLease,
  type MetadataStore,
  type MetadataWatch,
  type StoreCallOptions,
  type WatchListener,
} from '@transfer-engine/core/metadata';
import { KeyWatcher, type FeedEvents } from '../calls/key-watcher.ts';
import { checkKey, StoreCalls } from '../calls/store-calls.ts';
import { parseEtcdEndpoints, type EtcdStoreOptions } from './etcd-endpoints.ts';
import { EtcdGateway } from './etcd-gateway.ts';
import { EtcdLease } from './etcd-lease.ts';
import { etcdAdvice, LIST_PAGE, prefixEnd } from './etcd-protocol.ts';

interface KeyValue {
  /** base64, left out when empty. */
  readonly key?: string;
  readonly value?: string;
}

interface RangeAnswer {
  readonly kvs?: readonly KeyValue[];
  readonly more?: boolean;
  readonly count?: string;
}

interface WatchAnswer {
  readonly created?: boolean;
  readonly canceled?: boolean;
  readonly cancel_reason?: string;
  readonly events?: readonly { readonly type?: string; readonly kv?: KeyValue }[];
}

const toBase64 = (text: string | Buffer): string =>
  (typeof text === 'string' ? Buffer.from(text) : text).toString('base64');
const fromBase64 = (text = ''): string => Buffer.from(text, 'base64').toString('utf8');

/**
 * Documents in etcd, over its JSON interface (`/v3/…`): for places where the package etcd3 cannot
 * be installed, and for proxies that pass HTTP/1.1 only. Needs etcd 3.4 or newer.
 */
export class EtcdGatewayStore implements MetadataStore {
  readonly description: string;
  readonly trailingNewline = true;
  readonly #gateway: EtcdGateway;
  readonly #calls: StoreCalls;
  readonly #watcher = new KeyWatcher((keys, events, signal) => this.#feed(keys, events, signal));
  readonly #leases = new Set<MetadataLease>();
  #closing: Promise<void> | undefined;

  /** @throws EngineError `ERR_TE_INVALID_ARGUMENT` */
  constructor(scheme: string, target: string, options: EtcdStoreOptions = {}) {
    const endpoints = parseEtcdEndpoints(scheme, target, options);
    this.description = endpoints.description;
    this.#calls = new StoreCalls({
      description: this.description,
      timeoutMs: options.timeoutMs ?? 5_000,
      advice: etcdAdvice,
    });
    this.#gateway = new EtcdGateway(scheme === 'etcd+https', endpoints, options.tls);
  }

  async get(key: string, options?: StoreCallOptions): Promise<string | undefined> {
    return await this.#calls.run('get', key, options, async (signal) => {
      const { kvs } = await this.#range({ key: toBase64(key) }, signal);
      return kvs?.[0] === undefined ? undefined : fromBase64(kvs[0].value);
    });
  }

  async put(key: string, value: string, options?: StoreCallOptions): Promise<void> {
    await this.#put(key, value, options);
  }

  async remove(key: string, options?: StoreCallOptions): Promise<void> {
    await this.#calls.run('remove', key, options, (signal) =>
      this.#gateway.call('kv/deleterange', { key: toBase64(key) }, signal),
    );
  }

  async list(prefix: string, options?: StoreCallOptions): Promise<string[]> {
    return await this.#calls.run('list', prefix, options, async (signal) => {
      const [start, end] = prefixEnd(prefix);
      const found: string[] = [];
      for (let from = start; ;) {
        const page = { key: toBase64(from), range_end: toBase64(end), keys_only: true };
        const { kvs = [], more } = await this.#range({ ...page, limit: LIST_PAGE }, signal);
        for (const { key } of kvs) found.push(fromBase64(key));
        const last = kvs.at(-1)?.key;
        if (more !== true || last === undefined) return found.sort();
        from = Buffer.concat([Buffer.from(last, 'base64'), Buffer.of(0)]);
      }
    });
  }

  watch(key: string, listener: WatchListener): MetadataWatch {
    checkKey(key);
    return this.#watcher.watch(key, listener);
  }

  lease(options: LeaseOptions): MetadataLease {
    const server = new EtcdLease(options.leaseMs, {
      grant: async (seconds, bounds) =>
        await this.#calls.run('lease', 'lease', bounds, async (signal) => {
          const answer = await this.#gateway.call('lease/grant', { TTL: seconds }, signal);
          const { ID } = answer as { ID?: string };
          if (ID === undefined) throw new Error('the answer to lease/grant has no ID');
          return ID;
        }),
      keepAlive: async (id, bounds) =>
        await this.#calls.run('refresh', 'lease', bounds, async (signal) => {
          const answer = await this.#gateway.call('lease/keepalive', { ID: id }, signal);
          const { result } = answer as { result?: { TTL?: string } };
          return result?.TTL !== undefined && result.TTL !== '0';
        }),
      put: (key, value, id, bounds) => this.#put(key, value, bounds, id),
      remove: (key, bounds) => this.remove(key, bounds),
      present: async (key, bounds) =>
        await this.#calls.run('refresh', key, bounds, async (signal) => {
          const { count } = await this.#range({ key: toBase64(key), count_only: true }, signal);
          return count !== undefined && count !== '0';
        }),
    });
    const lease = new RefreshedLease(options, server);
    this.#leases.add(lease);
    return lease;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#calls.close();
    for (const lease of this.#leases) lease.close();
    this.#watcher.close();
    await this.#gateway.close();
  }

  async #range(request: object, signal: AbortSignal): Promise<RangeAnswer> {
    return (await this.#gateway.call('kv/range', request, signal)) as RangeAnswer;
  }

  async #put(
    key: string,
    value: string,
    options: StoreCallOptions | undefined,
    lease?: string,
  ): Promise<void> {
    const request = { key: toBase64(key), value: toBase64(value) };
    await this.#calls.run('put', key, options, (signal) =>
      this.#gateway.call('kv/put', lease === undefined ? request : { ...request, lease }, signal),
    );
  }

  /** One stream for each key: the interface reads one request of a stream over HTTP/1.1. */
  async #feed(keys: readonly string[], events: FeedEvents, signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    setMaxListeners(0, over.signal);
    const end = () => over.abort();
    signal.addEventListener('abort', end, { once: true });
    let created = 0;
    try {
      await Promise.all(
        keys.map(async (key) => {
          const request = { create_request: { key: toBase64(key) } };
          for await (const answer of this.#gateway.stream('watch', request, over.signal)) {
            const { result } = answer as { result?: WatchAnswer };
            if (result?.canceled === true)
              throw new EngineError('ERR_TE_METADATA', `watch ended: ${result.cancel_reason}`);
            if (result?.created === true && (created += 1) === keys.length) events.ready();
            for (const { type, kv } of result?.events ?? []) {
              if (type === 'DELETE') events.change({ type: 'remove', key });
              else events.change({ type: 'put', key, value: fromBase64(kv?.value) });
            }
          }
          throw new Error('the server ended the watch');
        }),
      );
    } finally {
      signal.removeEventListener('abort', end);
      over.abort();
    }
  }
}
