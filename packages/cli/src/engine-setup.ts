import {
  createEngine,
  type Engine,
  type EngineOptions,
  type MetadataStore,
  type TransportFactory,
} from '@transfer-engine/core';
import { openStore } from '@transfer-engine/metadata';
import { shm } from '@transfer-engine/transport-shm';
import { tcp } from '@transfer-engine/transport-tcp';
import type { CommandContext } from './command.ts';
import { setUp, usageFailure } from './failures.ts';
import { flag, integer, list, text } from './options.ts';

export const P2P = 'P2PHANDSHAKE';
const LOOPBACK = '127.0.0.1';

/** Transports that the CLI can make, by the name they have in documents. */
export const TRANSPORTS = ['shm', 'tcp'] as const;
export type TransportName = (typeof TRANSPORTS)[number];

export interface TransportSettings {
  /** Connections to each peer; the transport's default when absent. */
  readonly lanes?: number | undefined;
}

export function makeTransport(name: TransportName, settings: TransportSettings): TransportFactory {
  switch (name) {
    case 'shm':
      return shm();
    case 'tcp':
      return tcp(settings.lanes === undefined ? {} : { lanesPerPeer: settings.lanes });
  }
}

/** Options of every command that makes an engine. */
export const ENGINE_OPTIONS = {
  metadata: text('URI', {
    help: `${P2P}, or a store: http://…, etcd://…, redis://…`,
    fallback: P2P,
  }),
  name: text('NAME', {
    help: `segment name; with ${P2P} host, host:port or [v6]:port (default ${LOOPBACK} there)`,
  }),
  transports: list(TRANSPORTS, { help: 'in the order of preference', fallback: ['tcp'] }),
  host: text('HOST', { help: 'address that peers dial, with a store' }),
  bindHost: text('ADDRESS', { help: 'address to listen on' }),
  rpcPort: integer({ min: 0, max: 65_535, help: 'control port; 0 lets the system choose' }),
  strict: flag('publish only what the C++ engines know'),
} as const;

export interface EngineSettings {
  readonly metadata: string;
  readonly name: string | undefined;
  readonly transports: readonly TransportName[];
  readonly host: string | undefined;
  readonly bindHost: string | undefined;
  readonly rpcPort: number | undefined;
  readonly strict: boolean;
  readonly lanes?: number | undefined;
}

/** What can be said about the settings before anything happens. */
export function checkEngineSettings(settings: {
  readonly metadata: string;
  readonly name: string | undefined;
}): void {
  if (settings.metadata !== P2P && settings.name === undefined) {
    throw usageFailure(
      'option --name is missing; accepted: any name, under which peers find the segment in the store',
    );
  }
}

/** Makes an engine that is closed with the command; every failure is one of the set-up. */
export async function startEngine(
  settings: EngineSettings,
  context: CommandContext,
): Promise<Engine> {
  return await setUp(async () => {
    const metadata = await openMetadata(settings.metadata, context.environment);
    let engine: Engine;
    try {
      engine = await createEngine(engineOptions(settings, metadata, context));
    } catch (thrown) {
      if (metadata !== undefined) await metadata.close().catch(() => undefined);
      throw thrown;
    }
    context.shutdown.add(() => engine.close());
    return engine;
  });
}

/** Holds the token of an HTTP metadata server: command lines can be seen by other users. */
export const TOKEN_VARIABLE = 'TE_METADATA_TOKEN';

/** Opens a store; undefined for peer-to-peer mode, which has none. */
export async function openMetadata(
  uri: string,
  environment: CommandContext['environment'],
): Promise<MetadataStore | undefined> {
  if (uri === P2P) return undefined;
  const token = environment[TOKEN_VARIABLE];
  return await openStore(uri, {
    environment,
    ...(token === undefined || token === '' ? {} : { token }),
  });
}

function engineOptions(
  settings: EngineSettings,
  metadata: MetadataStore | undefined,
  context: CommandContext,
): EngineOptions {
  const { host, bindHost, rpcPort } = settings;
  return {
    metadata: metadata ?? P2P,
    name: settings.name ?? LOOPBACK,
    transports: settings.transports.map((name) => makeTransport(name, settings)),
    logger: context.logger,
    strict: settings.strict,
    environment: context.environment,
    ...(host === undefined ? {} : { host }),
    ...(bindHost === undefined ? {} : { bindHost }),
    ...(rpcPort === undefined ? {} : { rpcPort }),
  };
}

/** Members that tell a program where an engine is; the same in every event that has them. */
export function engineFacts(engine: Engine) {
  const { localSegment, address } = engine;
  return {
    segment: engine.segmentName,
    rpc_port: address.rpcPort,
    tcp_data_port: localSegment.tcpDataPort,
    tcp_proto_version: localSegment.tcpProtoVersion,
  };
}
