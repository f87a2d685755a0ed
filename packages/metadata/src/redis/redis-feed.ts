import { createHash } from 'node:crypto';
import { Cluster, type Redis } from 'ioredis';
import type { FeedEvents } from '../calls/key-watcher.ts';
import { RedisConnection, type RedisClient } from './redis-connection.ts';
import type { RedisTarget } from './redis-options.ts';
import { isScriptRefused } from './script-refused.ts';

/** Watched keys are looked at this seldom where notifications come: against lost messages. */
const POLL_FACTOR_WITH_NOTIFICATIONS = 10;

const DIGEST = `local value = redis.call('GET', KEYS[1])
if not value then return false end
return redis.sha1hex(value)`;

/**
 * Tells of changed keys over connections of its own.
 *
 * Keyspace notifications are used where the server sends them (`notify-keyspace-events` with K and
 * A, or K, $, g and x). Keys are looked at on a timer besides: a server that sends none, that does
 * not let us ask, and a cluster, whose nodes tell of their own keys only, are covered by that. A
 * look compares digests; the values stay where they are.
 */
export class RedisFeed {
  readonly #createClient: () => RedisClient;
  readonly #target: RedisTarget;
  readonly #pollMs: number;

  constructor(createClient: () => RedisClient, target: RedisTarget, pollMs: number) {
    this.#createClient = createClient;
    this.#target = target;
    this.#pollMs = pollMs;
  }

  async run(keys: readonly string[], events: FeedEvents, signal: AbortSignal): Promise<void> {
    const connections = [new RedisConnection(this.#createClient())];
    const [commands] = connections as [RedisConnection];
    const over = new AbortController();
    const end = () => over.abort();
    signal.addEventListener('abort', end, { once: true });
    try {
      await commands.ready(signal);
      const looker = new KeyLooker(commands.client, keys, events);
      let pollMs = this.#pollMs;
      if (await this.#sendsNotifications(commands.client)) {
        const subscriber = new RedisConnection(this.#createClient());
        connections.push(subscriber);
        await this.#subscribe(subscriber, keys, looker, over);
        pollMs *= POLL_FACTOR_WITH_NOTIFICATIONS;
      }
      await looker.look();
      events.ready();
      while (!over.signal.aborted) {
        await pause(pollMs * (0.8 + 0.4 * Math.random()), over.signal);
        if (!over.signal.aborted) await looker.look();
      }
    } finally {
      signal.removeEventListener('abort', end);
      for (const connection of connections) connection.close();
    }
  }

  async #sendsNotifications(client: RedisClient): Promise<boolean> {
    if (client instanceof Cluster) return false;
    try {
      const [, flags = ''] = await client.config('GET', 'notify-keyspace-events');
      return flags.includes('K') && (flags.includes('A') || /(?=.*\$)(?=.*g)(?=.*x)/.test(flags));
    } catch {
      // The command may be forbidden, or renamed.
      return false;
    }
  }

  async #subscribe(
    subscriber: RedisConnection,
    keys: readonly string[],
    looker: KeyLooker,
    over: AbortController,
  ): Promise<void> {
    await subscriber.ready(over.signal);
    const client = subscriber.client as Redis;
    const prefix = `__keyspace@${this.#target.db}__:`;
    client.on('message', (channel: string) => {
      looker.look([channel.slice(prefix.length)]).catch(() => over.abort());
    });
    client.on('close', () => over.abort());
    await client.subscribe(...keys.map((key) => prefix + key));
  }
}

/** Compares keys with what they were at the last look. */
class KeyLooker {
  readonly #client: RedisClient;
  readonly #keys: readonly string[];
  readonly #events: FeedEvents;
  readonly #digests = new Map<string, string | undefined>();
  #scripts = true;

  constructor(client: RedisClient, keys: readonly string[], events: FeedEvents) {
    this.#client = client;
    this.#keys = keys;
    this.#events = events;
  }

  async look(keys: readonly string[] = this.#keys): Promise<void> {
    await Promise.all(
      keys.map(async (key) => {
        const now = await this.#digestOf(key);
        const known = this.#digests.has(key);
        const before = this.#digests.get(key);
        this.#digests.set(key, now);
        if (!known || before === now) return;
        this.#events.change({ type: now === undefined ? 'remove' : 'put', key });
      }),
    );
  }

  async #digestOf(key: string): Promise<string | undefined> {
    if (this.#scripts) {
      try {
        const digest = await this.#client.eval(DIGEST, 1, key);
        return typeof digest === 'string' ? digest : undefined;
      } catch (error) {
        if (!isScriptRefused(error)) throw error;
        this.#scripts = false;
      }
    }
    const value = await this.#client.getBuffer(key);
    return value === null ? undefined : createHash('sha1').update(value).digest('hex');
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    timer.unref();
    signal.addEventListener('abort', end, { once: true });
    if (signal.aborted) end();
  });
}
