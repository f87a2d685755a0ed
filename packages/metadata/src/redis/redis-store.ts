import { createHash } from 'node:crypto';
import {
  RefreshedLease,
  type LeaseOptions,
  type MetadataLease,
  type MetadataStore,
  type MetadataWatch,
  type StoreCallOptions,
  type WatchListener,
} from '@transfer-engine/core/metadata';
import { Cluster, type Redis } from 'ioredis';
import { KeyWatcher } from '../calls/key-watcher.ts';
import { checkKey, positiveInteger, StoreCalls } from '../calls/store-calls.ts';
import { createClient, isConnectionLoss, RedisConnection } from './redis-connection.ts';
import { RedisFeed } from './redis-feed.ts';
import { parseRedisTarget, type RedisStoreOptions, type RedisTarget } from './redis-options.ts';
import { isScriptRefused } from './script-refused.ts';

const SCAN_COUNT = 1_000;
/** A server that finds a document too large ends the connection without a word that arrives. */
const SUSPICIOUS_CHARACTERS = 256 * 1024;

/** 1: prolonged; 0: not there; 2: somebody else wrote it, and its time is his business. */
const PROLONG = `local value = redis.call('GET', KEYS[1])
if not value then return 0 end
if redis.sha1hex(value) ~= ARGV[1] then return 2 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;

/**
 * Documents in Redis: one server, one behind sentinels, or a cluster.
 *
 * Values are written as the C++ engine writes them; keys are used verbatim. Leased keys have a time
 * to live, which needs no feature beyond Redis 2.6.
 */
export class RedisStore implements MetadataStore {
  readonly description: string;
  readonly trailingNewline = true;
  readonly #target: RedisTarget;
  readonly #connection: RedisConnection;
  readonly #calls: StoreCalls;
  readonly #watcher: KeyWatcher;
  readonly #leases = new Set<MetadataLease>();

  /** @throws EngineError `ERR_TE_INVALID_ARGUMENT` */
  constructor(
    scheme: string,
    target: string,
    options: RedisStoreOptions = {},
    environment: Readonly<Record<string, string | undefined>> = process.env,
  ) {
    this.#target = parseRedisTarget(scheme, target, options, environment);
    this.description = this.#target.description;
    this.#calls = new StoreCalls({
      description: this.description,
      timeoutMs: options.timeoutMs ?? 5_000,
      advice: redisAdvice,
    });
    this.#connection = new RedisConnection(createClient(this.#target, options));
    const pollMs = positiveInteger('pollMs', options.pollMs ?? 1_000);
    const feed = new RedisFeed(() => createClient(this.#target, options), this.#target, pollMs);
    this.#watcher = new KeyWatcher((keys, events, signal) => feed.run(keys, events, signal));
  }

  async get(key: string, options?: StoreCallOptions): Promise<string | undefined> {
    return await this.#run('get', key, options, async (client) => {
      const value = await client.getBuffer(key);
      return value === null ? undefined : value.toString('utf8');
    });
  }

  async put(key: string, value: string, options?: StoreCallOptions): Promise<void> {
    await this.#put(key, value, options);
  }

  async remove(key: string, options?: StoreCallOptions): Promise<void> {
    await this.#run('remove', key, options, (client) => client.del(key));
  }

  async list(prefix: string, options?: StoreCallOptions): Promise<string[]> {
    return await this.#run('list', prefix, options, async (client) => {
      const nodes = client instanceof Cluster ? client.nodes('master') : [client];
      const found = await Promise.all(nodes.map((node) => scan(node, prefix)));
      return [...new Set(found.flat())].sort();
    });
  }

  watch(key: string, listener: WatchListener): MetadataWatch {
    checkKey(key);
    return this.#watcher.watch(key, listener);
  }

  lease(options: LeaseOptions): MetadataLease {
    const { leaseMs } = options;
    const digests = new Map<string, string>();
    const lease = new RefreshedLease(options, {
      put: async (key, value, bounds) => {
        await this.#put(key, value, bounds, leaseMs);
        digests.set(key, createHash('sha1').update(value).digest('hex'));
      },
      remove: async (key, bounds) => {
        digests.delete(key);
        await this.remove(key, bounds);
      },
      refresh: async (keys, bounds) => {
        const left = await Promise.all(
          keys.map((key) =>
            this.#run('refresh', key, bounds, (client) =>
              prolong(client, key, digests.get(key) ?? '', leaseMs),
            ),
          ),
        );
        return keys.filter((_, index) => left[index] === false);
      },
    });
    this.#leases.add(lease);
    return lease;
  }

  close(): Promise<void> {
    if (this.#calls.closed) return Promise.resolve();
    this.#calls.close();
    for (const lease of this.#leases) lease.close();
    this.#watcher.close();
    this.#connection.close();
    return Promise.resolve();
  }

  async #put(
    key: string,
    value: string,
    options: StoreCallOptions | undefined,
    leaseMs?: number,
  ): Promise<void> {
    await this.#run('put', key, options, async (client) => {
      try {
        if (leaseMs === undefined) await client.set(key, value);
        else await client.set(key, value, 'PX', leaseMs);
      } catch (error) {
        if (value.length < SUSPICIOUS_CHARACTERS || !isConnectionLoss(error)) throw error;
        throw new Error(
          `the server ended the connection while it received ${Buffer.byteLength(value)} bytes; it ` +
            'does so with documents above its proto-max-bulk-len',
          { cause: error },
        );
      }
    });
  }

  /** All commands here can be sent twice: one more try when the connection was lost under one. */
  async #run<T>(
    call: string,
    key: string,
    options: StoreCallOptions | undefined,
    work: (client: RedisConnection['client']) => Promise<T>,
  ): Promise<T> {
    return await this.#calls.run(call, key, options, async (signal) => {
      await this.#connection.ready(signal);
      try {
        return await work(this.#connection.client);
      } catch (error) {
        if (signal.aborted || this.#calls.closed || !isConnectionLoss(error)) throw error;
        await this.#connection.ready(signal);
        return await work(this.#connection.client);
      }
    });
  }
}

/** Whether the key is there. Where scripts are not allowed the time of any value is prolonged. */
async function prolong(
  client: RedisConnection['client'],
  key: string,
  digest: string,
  leaseMs: number,
): Promise<boolean> {
  try {
    return (await client.eval(PROLONG, 1, key, digest, leaseMs)) !== 0;
  } catch (error) {
    if (!isScriptRefused(error)) throw error;
    return (await client.pexpire(key, leaseMs)) === 1;
  }
}

async function scan(node: Redis, prefix: string): Promise<string[]> {
  const pattern = `${prefix.replace(/[\\*?[\]]/g, '\\$&')}*`;
  const keys: string[] = [];
  let cursor = '0';
  do {
    const [next, page] = await node.scan(cursor, 'MATCH', pattern, 'COUNT', SCAN_COUNT);
    keys.push(...page);
    cursor = next;
  } while (cursor !== '0');
  return keys;
}

function redisAdvice(error: unknown): string {
  const reason = error instanceof Error ? error.message : String(error);
  if (/bulk length|proto-max-bulk-len|string exceeds/i.test(reason)) {
    return 'the document is too large for this server; raise its proto-max-bulk-len';
  }
  if (/OOM/.test(reason)) return 'the server is full; raise its maxmemory';
  if (/NOAUTH|WRONGPASS|NOPERM|invalid password|without any password/i.test(reason)) {
    return 'give a user name and a password (URI, MC_REDIS_USERNAME, MC_REDIS_PASSWORD) that may use these keys';
  }
  return 'check that Redis runs at this address';
}
