import type { ByteStore } from '../memory/byte-store.ts';
import type { MemoryLike } from '../memory/buffer-store.ts';
import type { SegmentDescriptor, SegmentDraft } from '../segment/segment-descriptor.ts';
import type {
  CompletionSink,
  Peer,
  Transport,
  TransportFactory,
  TransportHost,
} from '../transport/transport.ts';
import { createTestHost, type TestHostOverrides } from './test-host.ts';

/**
 * What a fixture is able to do beside moving bytes.
 *
 * - `applied-writes`: `ok` of a write means that the bytes are in the peer's memory.
 * - `peer-loss`: {@link TransportPair.loseTarget} is there.
 * - `stall`: {@link TransportPair.stallTarget} is there.
 */
export type TransportRequirement = 'applied-writes' | 'peer-loss' | 'stall';

/** One engine's side: a started transport and what it was lent. */
export interface TransportEnd {
  readonly transport: Transport;
  readonly host: TransportHost;
}

/** What a target registers, and a window through which the suite sees and fills the same bytes. */
export interface TargetObject {
  readonly store: ByteStore;
  readonly bytes: Buffer;
}

/** One initiator and two targets, fresh for each case. */
export interface TransportPair {
  readonly initiator: TransportEnd;
  readonly targets: readonly [TransportEnd, TransportEnd];
  /** Describes a target as its document does now. */
  peer(target: TransportEnd): Peer;
  /** Memory that the transport can use, zeroed. */
  memory(length: number): MemoryLike;
  /** Memory of a target that is more than plain memory; see {@link TargetObject}. */
  targetMemory?(target: TransportEnd, length: number): Promise<TargetObject>;
  /** Lets a little time pass. */
  turn(): Promise<void>;
  /** Ends a target as if its process were killed. */
  loseTarget?(target: TransportEnd): void | Promise<void>;
  /** Stops a target from serving anybody, until the returned function is called. */
  stallTarget?(target: TransportEnd): () => void;
  /** Closes everything. */
  dispose(): Promise<void>;
}

/** What the author of a transport hands to the suite. */
export interface TransportFixture {
  /** Makes a pair whose initiator reports to `sink`. */
  createPair(sink: CompletionSink): Promise<TransportPair>;
  /** How long the suite waits for anything that has to happen, on the host's clock. Default 20,000. */
  readonly waitLimitMs?: number;
}

/** The parts of a pair that differ between transports. */
export interface PairParts {
  /** Makes the transport of each of the three engines; called once for each. */
  factory(role: 'initiator' | 'target'): TransportFactory;
  /** What the hosts lend instead of the usual. */
  readonly host?: TestHostOverrides;
  /** Where peers find each other. Default "127.0.0.1". */
  readonly address?: string;
  memory?(length: number): MemoryLike;
  targetMemory?(target: TransportEnd, length: number): Promise<TargetObject>;
  turn?(): Promise<void>;
  loseTarget?(target: TransportEnd): void | Promise<void>;
  stallTarget?(target: TransportEnd): () => void;
  /** Called after the transports were closed. */
  dispose?(): Promise<void>;
}

/** A fixture over hosts of {@link createTestHost}; `setUp` is called for every pair. */
export function pairFixture(
  setUp: () => PairParts | Promise<PairParts>,
  options: { readonly waitLimitMs?: number } = {},
): TransportFixture {
  return {
    ...options,
    async createPair(sink) {
      const parts = await setUp();
      const start = async (
        role: 'initiator' | 'target',
        segmentName: string,
        overrides: TestHostOverrides,
      ): Promise<TransportEnd> => {
        const host = createTestHost({ segmentName, ...parts.host, ...overrides });
        const transport = parts.factory(role).create(host);
        await transport.start();
        return { transport, host };
      };
      const initiator = await start('initiator', 'initiator', { sink, seed: 1 });
      const first = await start('target', 'target-1', { seed: 2 });
      const second = await start('target', 'target-2', { seed: 3 });
      const { loseTarget, stallTarget, targetMemory } = parts;
      return {
        initiator,
        targets: [first, second],
        peer: (target) => ({
          descriptor: describeSegment(target),
          host: parts.address ?? '127.0.0.1',
        }),
        memory: (length) => parts.memory?.(length) ?? Buffer.alloc(length),
        turn: () => parts.turn?.() ?? nextTurn(),
        ...(targetMemory && {
          targetMemory: (target: TransportEnd, length: number) => targetMemory(target, length),
        }),
        ...(loseTarget && { loseTarget: (target: TransportEnd) => loseTarget(target) }),
        ...(stallTarget && { stallTarget: (target: TransportEnd) => stallTarget(target) }),
        async dispose() {
          await Promise.all([initiator, first, second].map(({ transport }) => transport.close()));
          await parts.dispose?.();
        },
      };
    },
  };
}

/** What an engine with this one transport would publish. */
export function describeSegment({ transport, host }: TransportEnd): SegmentDescriptor {
  const draft: SegmentDraft = {
    protocols: [],
    tcpDataPort: 0,
    tcpProtoVersion: 1,
    devices: [],
    priorityMatrix: {},
    capabilities: [],
    buffers: [...host.registry.regions()].map((region) => ({
      regionId: region.id,
      name: host.segmentName,
      address: BigInt(region.address),
      length: region.length,
      remoteKeys: [],
      localKeys: [],
      extras: {},
    })),
  };
  transport.describe(draft);
  const { capabilities, ...rest } = draft;
  return {
    ...rest,
    name: host.segmentName,
    extras: { version: 1, instance: host.instance, host: 'test-host', capabilities },
  };
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
