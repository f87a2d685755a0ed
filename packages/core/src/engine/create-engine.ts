import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { systemClock, type Clock } from '../base/clock.ts';
import { EngineError, invalidArgument } from '../base/errors.ts';
import { silentLogger, type Logger } from '../base/logger.ts';
import { systemRandom } from '../base/random.ts';
import { ControlClient } from '../control/control-client.ts';
import { createControlHandler } from '../control/control-handlers.ts';
import { ControlServer } from '../control/control-server.ts';
import { NotifyInbox } from '../control/notify-inbox.ts';
import { PeerDirectory } from '../control/peer-directory.ts';
import { AddressSpace } from '../memory/address-space.ts';
import { MemoryRegistry } from '../memory/memory-registry.ts';
import type { EngineIdentity } from '../metadata/descriptor-mapping.ts';
import type { MetadataStore } from '../metadata/metadata-store.ts';
import { OwnDocument } from '../metadata/own-document.ts';
import type { SegmentDirectory } from '../metadata/segment-directory.ts';
import { StoreDirectory } from '../metadata/store-directory.ts';
import { TransferMachine } from '../transfer/index.ts';
import type { Transport, TransportFactory } from '../transport/transport.ts';
import { emptyHandshake, formatHostPort, type HandshakeDocument } from '../wire/index.ts';
import { ControlCalls } from './control-calls.ts';
import { Driver } from './driver.ts';
import type { Engine, EngineOptions } from './engine-api.ts';
import { readConfig, type EngineConfig } from './engine-config.ts';
import { TransferEngineCore } from './engine.ts';
import { LocalMemory } from './local-memory.ts';
import { SegmentTable } from './segment-table.ts';

/** Extensions of the wire that this engine understands, published to engines of its own kind. */
const CAPABILITIES: readonly string[] = [];
/** Text that received notifications may hold together, in UTF-16 units. */
const INBOX_CHARACTERS = 64 * 1024 * 1024;

/**
 * Makes an engine: binds its ports, starts its transports and publishes its segment.
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT`, `ERR_TE_PORT_UNAVAILABLE`, `ERR_TE_METADATA`,
 * `ERR_TE_TIMEOUT`. Nothing stays open or published after an error.
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  const environment = options.environment ?? process.env;
  const logger = options.logger ?? silentLogger;
  const factories = checkTransports(options.transports ?? []);
  const store = checkStore(options.metadata);
  const config = readConfig(options, environment, logger);
  const undo: (() => Promise<void>)[] = [];
  try {
    return await assemble({ ...options, environment, logger }, config, factories, store, undo);
  } catch (error) {
    for (const step of undo.reverse()) {
      await step().catch((cause: unknown) =>
        logger.warn({ error: cause }, 'undoing a failed start'),
      );
    }
    throw EngineError.from(error, 'ERR_TE_INTERNAL', 'starting the engine');
  }
}

async function assemble(
  options: EngineOptions & Required<Pick<EngineOptions, 'environment' | 'logger'>>,
  config: EngineConfig,
  factories: readonly TransportFactory[],
  store: MetadataStore | undefined,
  undo: (() => Promise<void>)[],
): Promise<Engine> {
  const { clock = systemClock, random = systemRandom, logger, environment } = options;
  const { limits } = config;
  const identity: EngineIdentity = {
    instance: randomBytes(8).toString('hex'),
    host: config.strict ? '' : hostIdentity(),
  };
  const driver = new Driver(clock);
  const machine = new TransferMachine({
    nowMs: () => clock.nowMs(),
    wake: driver.wake,
    attemptsMax: limits.attempts,
  });
  driver.start(machine);
  undo.push(() => Promise.resolve(driver.stop()));
  const registry = new MemoryRegistry(new AddressSpace(random));
  const inbox = new NotifyInbox({ items: limits.inboxNotifications, characters: INBOX_CHARACTERS });
  const transports: Transport[] = [];
  const own = new OwnDocument({ identity, strict: config.strict });
  const controlServer = new ControlServer({
    handle: createControlHandler({
      ownDocument: () => (config.peerToPeer ? own.text() : undefined),
      inbox,
      acceptHandshake: (request) => acceptHandshake(request, transports),
    }),
    ...(config.bindHost === undefined ? {} : { bindHost: config.bindHost }),
    port: config.rpcPort !== 0 ? config.rpcPort : (config.portRange ?? 0),
    maxFrameBytes: limits.controlFrameBytes,
    clock,
    random,
    logger: logger.child({ component: 'control' }),
  });
  const rpcPort = await controlServer.listen();
  undo.push(() => controlServer.close());
  const segmentName = config.peerToPeer ? formatHostPort(config.host, rpcPort) : config.name;
  const client = new ControlClient({
    clock,
    timeoutMs: limits.controlTimeoutMs,
    connectTimeoutMs: limits.connectTimeoutMs,
    maxFrameBytes: limits.controlFrameBytes,
  });
  const names = { config, store, own, identity, segmentName, clock, client, logger };
  const directory = openDirectory(names);
  undo.push(() => directory.close());
  const publish = () => directory.publish(() => memory.draft(CAPABILITIES), segmentName);
  const memory: LocalMemory = new LocalMemory({
    registry,
    transports,
    segmentName: () => segmentName,
    regionsMax: limits.regions,
    publish,
  });
  const segments = new SegmentTable({ directory, machine, transports, logger });
  const control = new ControlCalls(directory, client, (name) => segments.find(name));
  for (const factory of factories) {
    const transport = factory.create({
      clock,
      random,
      logger: logger.child({ component: factory.name }),
      sink: machine,
      registry,
      segmentName,
      bindHost: config.bindHost,
      portRange: config.portRange,
      environment,
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
  return new TransferEngineCore({
    ...{
      config,
      segmentName,
      address,
      clock,
      logger,
      driver,
      machine,
      registry,
      memory,
      transports,
    },
    ...{ directory, segments, controlServer, control, inbox },
  });
}

function openDirectory(deps: {
  config: EngineConfig;
  store: MetadataStore | undefined;
  own: OwnDocument;
  identity: EngineIdentity;
  segmentName: string;
  clock: Clock;
  client: ControlClient;
  logger: Logger;
}): SegmentDirectory {
  const { config, store, own, identity, segmentName, clock, client, logger } = deps;
  if (store === undefined) {
    return new PeerDirectory({ client, document: own, defaultPort: config.defaultPort, logger });
  }
  return new StoreDirectory({
    store,
    name: segmentName,
    identity,
    strict: config.strict,
    clusterId: config.clusterId,
    timeoutMs: config.limits.controlTimeoutMs,
    clock,
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

function checkTransports(factories: readonly TransportFactory[]): readonly TransportFactory[] {
  if (!Array.isArray(factories))
    throw invalidArgument('transports', factories, 'a list such as [tcp()]');
  const names = new Set<string>();
  factories.forEach((factory: TransportFactory, index) => {
    if (typeof factory?.create !== 'function' || typeof factory.name !== 'string') {
      throw invalidArgument(
        `transports[${index}]`,
        factory,
        'what a transport package returns, such as tcp()',
      );
    }
    if (names.has(factory.name)) {
      throw invalidArgument(`transports[${index}]`, factory.name, 'each transport once');
    }
    names.add(factory.name);
  });
  return factories;
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

/** Tells whether two engines run on one boot of one host; containers of a host have one boot id. */
function hostIdentity(): string {
  try {
    return `${hostname()}/${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}`;
  } catch {
    // Not Linux: the name alone must do. It only helps to choose what to try first.
    return hostname();
  }
}
