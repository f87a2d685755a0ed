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
import { Etcd3, type IOptions } from 'etcd3';
import { KeyWatcher, type FeedEvents } from '../calls/key-watcher.ts';
import { checkKey, StoreCalls } from '../calls/store-calls.ts';
import { callPolicy } from './etcd-call-policy.ts';
import { parseEtcdEndpoints, type EtcdEndpoints, type EtcdStoreOptions } from './etcd-endpoints.ts';
import { EtcdLease } from './etcd-lease.ts';
import { etcdAdvice, LIST_PAGE, prefixEnd } from './etcd-protocol.ts';

/** As of the C++ engine's client, each way. Source: Mooncake 3b5a594, etcd_wrapper.go. */
const MESSAGE_BYTES_MAX = 32 * 1024 * 1024;

/**
 * Documents in etcd, over its gRPC interface, with the package etcd3.
 *
 * Values are written as the C++ engine writes them; keys are used verbatim.
 */
export class EtcdStore implements MetadataStore {
  readonly description: string;
  readonly trailingNewline = true;
  readonly #client: Etcd3;
  readonly #calls: StoreCalls;
  readonly #watcher = new KeyWatcher((keys, events, signal) => this.#feed(keys, events, signal));
  readonly #leases = new Set<MetadataLease>();

  /** @throws EngineError `ERR_TE_INVALID_ARGUMENT` */
  constructor(scheme: string, target: string, options: EtcdStoreOptions = {}) {
    const endpoints = parseEtcdEndpoints(scheme, target, options);
    this.description = endpoints.description;
    this.#calls = new StoreCalls({
      description: this.description,
      timeoutMs: options.timeoutMs ?? 5_000,
      advice: etcdAdvice,
    });
    this.#client = new Etcd3(clientOptions(scheme, endpoints, options));
  }

  async get(key: string, options?: StoreCallOptions): Promise<string | undefined> {
    return await this.#calls.run('get', key, options, async (_signal, timeoutMs) => {
      const { kvs } = await this.#client.kv.range({ key: Buffer.from(key) }, within(timeoutMs));
      return kvs[0]?.value.toString('utf8');
    });
  }

  async put(key: string, value: string, options?: StoreCallOptions): Promise<void> {
    await this.#put(key, value, options);
  }

  async remove(key: string, options?: StoreCallOptions): Promise<void> {
    await this.#calls.run('remove', key, options, (_signal, timeoutMs) =>
      this.#client.kv.deleteRange({ key: Buffer.from(key) }, within(timeoutMs)),
    );
  }

  async list(prefix: string, options?: StoreCallOptions): Promise<string[]> {
    return await this.#calls.run('list', prefix, options, async (_signal, timeoutMs) => {
      const bound = within(timeoutMs);
      const [start, end] = prefixEnd(prefix);
      const found: string[] = [];
      for (let from = start; ;) {
        const { kvs, more } = await this.#client.kv.range(
          { key: from, range_end: end, keys_only: true, limit: LIST_PAGE },
          bound,
        );
        for (const { key } of kvs) found.push(key.toString('utf8'));
        const last = kvs.at(-1);
        if (!more || last === undefined) return found.sort();
        from = Buffer.concat([last.key, Buffer.of(0)]);
      }
    });
  }

  watch(key: string, listener: WatchListener): MetadataWatch {
    checkKey(key);
    return this.#watcher.watch(key, listener);
  }

  lease(options: LeaseOptions): MetadataLease {
    const { leaseClient } = this.#client;
    const server = new EtcdLease(options.leaseMs, {
      grant: async (seconds, bounds) =>
        await this.#calls.run('lease', 'lease', bounds, async (_signal, timeoutMs) => {
          const { ID } = await leaseClient.leaseGrant({ TTL: seconds }, within(timeoutMs));
          return ID;
        }),
      keepAlive: (id, bounds) =>
        this.#calls.run('refresh', 'lease', bounds, (_signal, timeoutMs) =>
          this.#keepAlive(id, timeoutMs),
        ),
      put: (key, value, id, bounds) => this.#put(key, value, bounds, id),
      remove: (key, bounds) => this.remove(key, bounds),
      present: async (key, bounds) =>
        await this.#calls.run('refresh', key, bounds, async (_signal, timeoutMs) => {
          const range = { key: Buffer.from(key), count_only: true };
          return (await this.#client.kv.range(range, within(timeoutMs))).count !== '0';
        }),
    });
    const lease = new RefreshedLease(options, server);
    this.#leases.add(lease);
    return lease;
  }

  close(): Promise<void> {
    if (this.#calls.closed) return Promise.resolve();
    this.#calls.close();
    for (const lease of this.#leases) lease.close();
    this.#watcher.close();
    this.#client.close();
    return Promise.resolve();
  }

  async #put(
    key: string,
    value: string,
    options: StoreCallOptions | undefined,
    lease?: string,
  ): Promise<void> {
    await this.#calls.run('put', key, options, (_signal, timeoutMs) =>
      this.#client.kv.put(
        {
          key: Buffer.from(key),
          value: Buffer.from(value),
          ...(lease === undefined ? {} : { lease }),
        },
        within(timeoutMs),
      ),
    );
  }

  /** Whether the server still had the lease. */
  async #keepAlive(id: string, timeoutMs: number): Promise<boolean> {
    const stream = await this.#client.leaseClient.leaseKeepAlive(within(timeoutMs));
    try {
      return await new Promise<boolean>((resolve, reject) => {
        stream.on('data', ({ TTL }) => resolve(TTL !== '0'));
        stream.on('error', reject);
        stream.on('end', () => reject(new Error('the stream ended without an answer')));
        stream.write({ ID: id });
      });
    } finally {
      stream.on('error', () => undefined);
      stream.cancel();
    }
  }

  async #feed(keys: readonly string[], events: FeedEvents, signal: AbortSignal): Promise<void> {
    const stream = await this.#client.watchClient.watch();
    await new Promise<void>((resolve, reject) => {
      let created = 0;
      stream.on('data', (response) => {
        if (response.canceled) {
          return reject(new Error(response.cancel_reason || 'the server ended the watch'));
        }
        if (response.created && (created += 1) === keys.length) events.ready();
        for (const { type, kv } of response.events) {
          const key = kv.key.toString('utf8');
          if (type === 'Delete' || String(type) === 'DELETE')
            events.change({ type: 'remove', key });
          else events.change({ type: 'put', key, value: kv.value.toString('utf8') });
        }
      });
      stream.on('error', reject);
      stream.on('end', () => reject(new Error('the server ended the watch')));
      signal.addEventListener('abort', () => resolve(), { once: true });
      if (signal.aborted) return resolve();
      for (const key of keys) stream.write({ create_request: { key: Buffer.from(key) } });
    }).finally(() => {
      stream.on('error', () => undefined);
      stream.cancel();
    });
  }
}

const within = (timeoutMs: number) => ({ deadline: Date.now() + Math.min(timeoutMs, 0x7fff_ffff) });

function clientOptions(
  scheme: string,
  endpoints: EtcdEndpoints,
  { tls, timeoutMs = 5_000 }: EtcdStoreOptions,
): IOptions {
  const secure = scheme === 'etcds' || tls !== undefined;
  const { hosts, username, password } = endpoints;
  if (tls !== undefined && tls.ca === undefined) {
    throw new EngineError(
      'ERR_TE_INVALID_ARGUMENT',
      'tls of an etcd store has no ca; accepted: the PEM text of the certificate authority',
    );
  }
  return {
    hosts: hosts.map((host) => `${secure ? 'https' : 'http'}://${host}`),
    dialTimeout: timeoutMs,
    faultHandling: callPolicy(hosts.length),
    grpcOptions: {
      'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
      'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
      // A peer that vanished without a word is noticed by watches.
      'grpc.keepalive_time_ms': 10_000,
      'grpc.keepalive_timeout_ms': 3_000,
    },
    ...(username === undefined || username === ''
      ? {}
      : {
          auth: {
            username,
            password: password ?? '',
            callOptions: () => within(timeoutMs),
          },
        }),
    ...(tls?.ca === undefined
      ? {}
      : {
          credentials: {
            rootCertificate: Buffer.from(tls.ca),
            ...(tls.key === undefined ? {} : { privateKey: Buffer.from(tls.key) }),
            ...(tls.cert === undefined ? {} : { certChain: Buffer.from(tls.cert) }),
          },
        }),
  };
}
