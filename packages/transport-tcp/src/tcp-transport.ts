import { crc32 } from 'node:zlib';
import type {
  Peer,
  RegisteredRegion,
  Route,
  SegmentDraft,
  Transport,
  TransportHost,
} from '@transfer-engine/core/transport';
import { LaneRoute } from './client/lane-route.ts';
import { OneShotRoute } from './client/one-shot-route.ts';
import type { RouteDeps } from './client/route-deps.ts';
import { TcpCounters } from './counters.ts';
import { TcpServer } from './server/tcp-server.ts';
import { FaultWriter } from './session/fault.ts';
import { createScratch } from './session/frame-reader.ts';
import { TokenTable } from './session/token-table.ts';
import { SlabPool } from './session/transmit-group.ts';
import { resolveSettings, type TcpOptions, type TcpSettings } from './tcp-options.ts';
import { EXTENDED_CAPABILITY, isHelloInstance } from './wire/extended-frames.ts';

/** The framing that this transport serves, and publishes. */
const PROTOCOL_VERSION = 2;

/** Both roles of the TCP transport; names its parts. */
export class TcpTransport implements Transport {
  readonly name = 'tcp';
  readonly capabilities = { needsRegisteredMemory: false };
  readonly #host: TransportHost;
  readonly #settings: TcpSettings;
  readonly #counters = new TcpCounters();
  readonly #scratch = createScratch();
  readonly #slabs = new SlabPool();
  readonly #server: TcpServer;
  /** By host, port and framing, or the instance that is greeted. */
  readonly #routes = new Map<string, Route>();
  /** Also those that are being closed. */
  readonly #live = new Set<Route>();
  /** Framing x1 is served, published and used. */
  readonly #extended: boolean;
  #port = 0;
  #closed = false;

  constructor(host: TransportHost, options: TcpOptions) {
    this.#host = host;
    this.#settings = resolveSettings(options, host.environment, host.logger);
    this.#extended = !host.strict && isHelloInstance(host.instance);
    this.#server = new TcpServer({
      registry: host.registry,
      extended: this.#extended
        ? { instance: host.instance, tokens: new TokenTable(), checksum: crc32 }
        : undefined,
      settings: this.#settings,
      clock: host.clock,
      random: host.random,
      logger: host.logger,
      scratch: this.#scratch,
      slabs: this.#slabs,
      counters: this.#counters,
    });
  }

  async start(): Promise<void> {
    const { bindHost, portRange } = this.#host;
    this.#port = await this.#server.start({ bindHost, portRange });
  }

  describe(draft: SegmentDraft): void {
    if (!draft.protocols.includes(this.name)) draft.protocols.push(this.name);
    draft.tcpDataPort = this.#port;
    draft.tcpProtoVersion = PROTOCOL_VERSION;
    if (this.#extended) draft.capabilities.push(EXTENDED_CAPABILITY);
  }

  async detach(regions: readonly RegisteredRegion[]): Promise<void> {
    await this.#server.detach(regions);
  }

  reach(peer: Peer): Route | undefined {
    const { tcpDataPort: port, tcpProtoVersion } = peer.descriptor;
    if (this.#closed || !(port > 0 && port < 65_536)) return undefined;
    const version = tcpProtoVersion >= 2 && !this.#settings.forceV1 ? 2 : 1;
    const instance = version === 2 ? this.#helloInstance(peer) : undefined;
    const key = `${instance ?? version} ${port} ${peer.host}`;
    const known = this.#routes.get(key);
    if (known !== undefined) return known;
    const deps = this.#routeDeps(peer, port, key, instance);
    const route = version === 2 ? new LaneRoute(deps) : new OneShotRoute(deps);
    this.#routes.set(key, route);
    this.#live.add(route);
    return route;
  }

  stats(): Readonly<Record<string, number>> {
    return this.#counters.snapshot();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#live].map((route) => route.close()));
    await this.#server.close();
  }

  /** What to greet the peer with in framing x1; undefined when it is not to be used. */
  #helloInstance({ descriptor: { extras } }: Peer): string | undefined {
    if (this.#host.strict || extras?.capabilities.includes(EXTENDED_CAPABILITY) !== true) {
      return undefined;
    }
    return isHelloInstance(extras.instance) ? extras.instance : undefined;
  }

  #routeDeps(peer: Peer, port: number, key: string, instance: string | undefined): RouteDeps {
    const { clock, sink } = this.#host;
    const name = peer.host.includes(':') ? `[${peer.host}]:${port}` : `${peer.host}:${port}`;
    return {
      transport: this,
      peer,
      sink,
      extended: instance === undefined ? undefined : { instance, checksum: crc32 },
      host: peer.host,
      port,
      settings: this.#settings,
      clock,
      scratch: this.#scratch,
      slabs: this.#slabs,
      counters: this.#counters,
      faults: new FaultWriter(name),
      onClosed: (route) => this.#live.delete(route),
      onClosing: (route) => {
        if (this.#routes.get(key) === route) this.#routes.delete(key);
      },
    };
  }
}
