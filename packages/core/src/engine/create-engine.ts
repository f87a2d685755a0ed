import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { systemClock, type Clock } from '../base/clock.ts';
import { EngineError, invalidArgument } from '../base/errors.ts';
import { silentLogger, type Logger } from '../base/logger.ts';
import { systemRandom, type Random } from '../base/random.ts';
import { ControlClient } from '../control/control-client.ts';
import { createControlHandler } from '../control/control-handlers.ts';
import { socketLinks, type ControlLinks, type ControlListener } from '../control/control-links.ts';
import { NotifyInbox } from '../control/notify-inbox.ts';
import { PeerDirectory } from '../control/peer-directory.ts';
import { ReceivedIds } from '../control/received-ids.ts';
import { AddressSpace } from '../memory/address-space.ts';
import { MemoryRegistry } from '../memory/memory-registry.ts';
import type { EngineIdentity } from '../metadata/descriptor-mapping.ts';
import type { MetadataStore } from '../metadata/metadata-store.ts';
import { OwnDocument } from '../metadata/own-document.ts';
import type { SegmentDirectory } from '../metadata/segment-directory.ts';
import { StoreDirectory } from '../metadata/store-directory.ts';
import { TransferMachine } from '../transfer/index.ts';
import type { Transport, TransportFactory } from '../transport/transport.ts';
import {
  emptyHandshake,
  formatHostPort,
  type HandshakeDocument,
  type NotifyDocument,
} from '../wire/index.ts';
import { ControlCalls, NOTIFY_CAPABILITY } from './control-calls.ts';
import { Driver } from './driver.ts';
import type { Engine, EngineOptions } from './engine-api.ts';
import { readConfig, type EngineConfig, type Environment } from './engine-config.ts';
import { TransferEngineCore } from './engine.ts';
import { LocalMemory } from './local-memory.ts';
import { SegmentTable } from './segment-table.ts';
import { Telemetry } from './telemetry.ts';

/** Extensions of the wire that this engine understands, published to engines of its own kind. */
const CAPABILITIES: readonly string[] = [NOTIFY_CAPABILITY];
/** Text that received notifications may hold together, in UTF-16 units. */
const INBOX_CHARACTERS = 64 * 1024 * 1024;

/** What the steps of {@link createEngine} share. */
interface Start {
  readonly options: EngineOptions;
  readonly config: EngineConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly environment: Environment;
  readonly identity: EngineIdentity;
  readonly links: ControlLinks;
  /** Takes back what was done, the last thing first, when a later step fails. */
  readonly undo: (() => Promise<void>)[];
}

/**
 * Makes an engine: binds its ports, starts its transports and publishes its segment.
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT`, `ERR_TE_PORT_UNAVAILABLE`, `ERR_TE_METADATA`,
 * `ERR_TE_TIMEOUT`. Nothing stays open or published after an error.
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  const environment = options.environment ?? process.env;
  const { logger = silentLogger, clock = systemClock, random = systemRandom } = options;
  const factories = checkTransports(options.transports ?? []);
  const store = checkStore(options.metadata);
  const config = readConfig(options, environment, logger);
  const links = options.controlLinks ?? socketLinks;
  const identity: EngineIdentity = {
    instance: options.random === undefined ? randomBytes(8).toString('hex') : randomName(random),
    host: config.strict ? '' : hostIdentity(),
  };
  const undo: Start['undo'] = [];
  const start = { options, config, clock, random, logger, environment, identity, links, undo };
  try {
    return await assemble(start, factories, store);
  } catch (error) {
    for (const step of undo.reverse()) {
      await step().catch((cause: unknown) => {
        logger.warn({ error: cause }, 'undoing a failed start');
      });
    }
    throw EngineError.from(error, 'ERR_TE_INTERNAL', 'starting the engine');
  }
}

async function assemble(
  start: Start,
  factories: readonly TransportFactory[],
  store: MetadataStore | undefined,
): Promise<Engine> {
  const { config, clock, random, logger, identity, undo } = start;
  const { limits } = config;
  const telemetry = new Telemetry(clock);
  const { driver, machine } = startMachine(start, telemetry);
  const registry = new MemoryRegistry(new AddressSpace(random));
  const transports: Transport[] = [];
  const now = () => new Date(clock.dateMs?.() ?? Date.now());
  const own = new OwnDocument({ identity, strict: config.strict, now });
  const { controlServer, inbox } = await openControlPort(start, own, transports);
  const rpcPort = controlServer.port;
  const segmentName = config.peerToPeer ? formatHostPort(config.host, rpcPort) : config.name;
  telemetry.engine = segmentName;
  const client = new ControlClient({
    clock,
    ownPort: rpcPort,
    ...(start.links.exchange === undefined ? {} : { exchange: start.links.exchange }),
    timeoutMs: limits.controlTimeoutMs,
    connectTimeoutMs: limits.connectTimeoutMs,
    maxFrameBytes: limits.controlFrameBytes,
  });
  const directory = openDirectory({ start, store, own, segmentName, client, now });
  undo.push(() => directory.close());
  const publish = () => directory.publish(() => memory.draft(CAPABILITIES), segmentName);
  const memory: LocalMemory = new LocalMemory({
    ...{ registry, transports, clock, publish },
    segmentName: () => segmentName,
    regionsMax: limits.regions,
    cancelTransfersOf: (region) => engine.cancelTransfersOf(region),
  });
  const segments = new SegmentTable({
    ...{ directory, machine, transports, logger, telemetry },
    pendingBytesMax: limits.pendingBytesPerPeer,
  });
  const self = { instance: identity.instance, segment: segmentName };
  const control = new ControlCalls(directory, client, segments, () => self);
  for (const factory of factories) {
    const transport = factory.create({
      ...{ clock, random, registry, segmentName, sink: machine },
      logger: logger.child({ component: factory.name }),
      bindHost: config.bindHost,
      portRange: config.portRange,
      environment: start.environment,
      instance: identity.instance,
      hostIdentity: identity.host,
      strict: config.strict,
      handshake: (peer, message, signal) => control.handshake(peer, message, signal),
    });
    undo.push(() => transport.close());
    await transport.start();
    transports.push(transport);
  }
  const address = { host: config.host, rpcPort };
  undo.push(() => directory.withdraw());
  await directory.announce(segmentName, address);
  await publish();
  logger.info({ segment: segmentName, ...address }, 'engine is up');
  const engine = new TransferEngineCore({
    ...{ config, segmentName, address, clock, logger, driver, machine, registry, memory },
    ...{ transports, directory, segments, controlServer, control, inbox },
  });
  return engine;
}

function startMachine(
  { config, clock, options, undo }: Start,
  telemetry: Telemetry,
): { driver: Driver; machine: TransferMachine } {
  const driver = new Driver(clock);
  const machine = new TransferMachine({
    nowMs: () => clock.nowMs(),
    wake: driver.wake,
    attemptsMax: config.limits.attempts,
    inFlightBytesMax: config.limits.inFlightBytesPerPeer,
    events: telemetry,
    ...(options.retryPolicy === undefined ? {} : { retryPolicy: options.retryPolicy }),
  });
  driver.start(machine);
  undo.push(() => Promise.resolve(driver.stop()));
  return { driver, machine };
}

async function openControlPort(
  { config, clock, random, logger, links, undo }: Start,
  own: OwnDocument,
  transports: readonly Transport[],
): Promise<{ controlServer: ControlListener; inbox: NotifyInbox<NotifyDocument> }> {
  const { limits } = config;
  const bounds = { items: limits.inboxNotifications, characters: INBOX_CHARACTERS };
  const inbox = new NotifyInbox<NotifyDocument>(bounds);
  const controlServer = await links.listen({
    handle: createControlHandler({
      ownDocument: () => (config.peerToPeer ? own.text() : undefined),
      inbox,
      received: new ReceivedIds(),
      acceptHandshake: (request) => acceptHandshake(request, transports),
    }),
    ...(config.bindHost === undefined ? {} : { bindHost: config.bindHost }),
    port: config.rpcPort !== 0 ? config.rpcPort : (config.portRange ?? 0),
    backlog: config.backlog,
    maxFrameBytes: limits.controlFrameBytes,
    clock,
    random,
    logger: logger.child({ component: 'control' }),
  });
  undo.push(() => controlServer.close());
  return { controlServer, inbox };
}

function openDirectory(deps: {
  start: Start;
  store: MetadataStore | undefined;
  own: OwnDocument;
  segmentName: string;
  client: ControlClient;
  now: () => Date;
}): SegmentDirectory {
  const { start, store, own, segmentName, client, now } = deps;
  const { config, identity, clock, logger, random } = start;
  if (store === undefined) {
    const { defaultPort } = config;
    return new PeerDirectory({ client, document: own, defaultPort, logger });
  }
  return new StoreDirectory({
    ...{ store, identity, clock, random, now, name: segmentName },
    logger: logger.child({ component: 'metadata' }),
    strict: config.strict,
    clusterId: config.clusterId,
    timeoutMs: config.limits.controlTimeoutMs,
  });
}

/** The first transport that takes handshakes answers; without one the answer is empty, as in C++. */
async function acceptHandshake(
  request: HandshakeDocument,
  transports: readonly Transport[],
): Promise<HandshakeDocument> {
  const transport = transports.find((candidate) => candidate.acceptHandshake !== undefined);
  if (transport?.acceptHandshake === undefined) return emptyHandshake();
  try {
    return await transport.acceptHandshake(request);
  } catch (error) {
    throw EngineError.from(error, 'ERR_TE_REJECT_HANDSHAKE');
  }
}

function checkTransports(given: unknown): readonly TransportFactory[] {
  if (!Array.isArray(given)) throw invalidArgument('transports', given, 'a list such as [tcp()]');
  const names = new Set<string>();
  return given.map((candidate: unknown, index) => {
    const place = `transports[${index}]`;
    const factory = candidate as TransportFactory | null | undefined;
    if (typeof factory?.create !== 'function' || typeof factory.name !== 'string') {
      throw invalidArgument(place, candidate, 'what a transport package returns, such as tcp()');
    }
    if (names.has(factory.name)) throw invalidArgument(place, factory.name, 'each transport once');
    names.add(factory.name);
    return factory;
  });
}

function checkStore(metadata: EngineOptions['metadata']): MetadataStore | undefined {
  if (metadata === undefined || metadata === 'P2PHANDSHAKE') return undefined;
  if (typeof metadata === 'object' && typeof metadata?.get === 'function') return metadata;
  throw invalidArgument(
    'metadata',
    metadata,
    '"P2PHANDSHAKE" or a store, such as await openStore("http://host:port/metadata")',
  );
}

const randomName = (random: Random) =>
  `${random.uint32().toString(16)}${random.uint32().toString(16)}`;

/** Tells whether two engines run on one boot of one host; containers of a host have one boot id. */
function hostIdentity(): string {
  try {
    return `${hostname()}/${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}`;
  } catch {
    // Not Linux: the name alone must do. It only helps to choose what to try first.
    return hostname();
  }
}
