import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { applicableCases, pairFixture, transportCompliance } from '@transfer-engine/core/testing';
import type {
  SegmentDraft,
  Transport,
  TransportFactory,
  TransportHost,
} from '@transfer-engine/core/transport';
import { tcp, type TcpOptions } from '@transfer-engine/transport-tcp';
import { describe, it } from 'vitest';

const variants: Record<string, TcpOptions> = {
  'TCP transport': {},
  'TCP transport that copies what it reads': { directRead: false },
  'TCP transport with short queues': { lanesPerPeer: 3, laneSlices: 4, laneBytes: 300_000 },
};

// An instance as engines have it; hosts of tests have none that fits a hello.
const EXTENDED = { instance: '0123456789abcdef' };
const framings = {
  'framing x1': EXTENDED,
  'framing v2, because the engines are strict': { ...EXTENDED, strict: true },
};

const cases = Object.entries(variants).flatMap(([name, options]) =>
  Object.entries(framings).map(
    ([framing, host]) => [`${name}, ${framing}`, options, host] as const,
  ),
);

for (const [name, options, host] of cases) {
  describe(name, () => {
    const fixture = pairFixture(() => ({
      factory: () => tcp(options),
      host,
      loseTarget: ({ transport }) => transport.close(),
    }));
    for (const { name: promise, run } of applicableCases(transportCompliance, [
      'applied-writes',
      'peer-loss',
    ])) {
      it(promise, () => run(fixture));
    }
  });
}

/** Stands between initiators and a target, and can stop passing bytes on. */
class Relay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #stopped = false;

  constructor(targetPort: () => number) {
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
      const far = connect({
        port: targetPort(),
        host: '127.0.0.1',
        allowHalfOpen: true,
        noDelay: true,
      });
      this.#join(near, far);
      this.#join(far, near);
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async start(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  /** @returns what lets the bytes pass again */
  stop(): () => void {
    this.#stopped = true;
    for (const socket of this.#sockets) socket.pause();
    return () => {
      this.#stopped = false;
      for (const socket of this.#sockets) socket.resume();
    };
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    from.on('data', (bytes) => {
      if (to.write(bytes)) return;
      from.pause();
      to.once('drain', () => {
        if (!this.#stopped) from.resume();
      });
    });
    from.on('end', () => to.end());
    from.on('error', () => to.destroy());
    from.on('close', () => {
      this.#sockets.delete(from);
      to.destroy();
    });
    if (this.#stopped) from.pause();
  }
}

/** A TCP transport that is reached through a relay. */
class RelayedTransport implements Transport {
  readonly name = 'tcp';
  readonly capabilities = { needsRegisteredMemory: false };
  readonly relay: Relay;
  readonly #inner: Transport;

  constructor(inner: Transport) {
    this.#inner = inner;
    this.relay = new Relay(() => this.#port);
  }

  get #port(): number {
    const draft = { protocols: [], capabilities: [], devices: [], buffers: [] };
    const described = { ...draft, tcpDataPort: 0, tcpProtoVersion: 1, priorityMatrix: {} };
    this.#inner.describe(described);
    return described.tcpDataPort;
  }

  async start(): Promise<void> {
    await this.#inner.start();
    await this.relay.start();
  }

  describe(draft: SegmentDraft): void {
    this.#inner.describe(draft);
    draft.tcpDataPort = this.relay.port;
  }

  detach(...given: Parameters<NonNullable<Transport['detach']>>): Promise<void> {
    return this.#inner.detach?.(...given) ?? Promise.resolve();
  }

  reach(...given: Parameters<Transport['reach']>): ReturnType<Transport['reach']> {
    return this.#inner.reach(...given);
  }

  async close(): Promise<void> {
    this.relay.close();
    await this.#inner.close();
  }
}

function relayed(factory: TransportFactory): TransportFactory {
  return {
    name: factory.name,
    create: (host: TransportHost) => new RelayedTransport(factory.create(host)),
  };
}

describe.each(Object.entries(framings))('TCP behind a relay that can stall, %s', (_name, host) => {
  const fixture = pairFixture(() => ({
    host,
    factory: (role) => (role === 'target' ? relayed(tcp()) : tcp()),
    loseTarget: ({ transport }) => transport.close(),
    stallTarget: ({ transport }) => (transport as RelayedTransport).relay.stop(),
  }));
  for (const { name: promise, run } of applicableCases(transportCompliance, [
    'applied-writes',
    'peer-loss',
    'stall',
  ])) {
    it(promise, () => run(fixture));
  }
});
