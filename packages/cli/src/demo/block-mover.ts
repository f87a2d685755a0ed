import {
  EngineError,
  TaskState,
  type BatchRequest,
  type Engine,
  type MemoryRegion,
  type NotificationContent,
  type OpcodeName,
  type Segment,
} from '@transfer-engine/core';
import { LatencyHistogram } from '../histogram.ts';
import type { PagedCache } from './paged-cache.ts';

const BATCH_TIMEOUT_MS = 60_000;

export interface MoveSettings {
  readonly engine: Engine;
  readonly cache: PagedCache;
  readonly peer: Segment;
  readonly opcode: OpcodeName;
  readonly transport: string;
  readonly blocksPerBatch: number;
  readonly batchesInFlight: number;
  /** Sent by the engine when the last batch is complete; that one starts when all others are. */
  readonly notify: NotificationContent;
  readonly onProgress: (bytes: number) => void;
}

export interface MoveResult {
  readonly bytes: number;
  readonly batches: number;
  readonly elapsedMs: number;
  /** Time from the submission of a batch to its end. */
  readonly latency: LatencyHistogram;
}

/** Moves every block between the own cache and the peer's: block by block, in batches. */
export async function moveBlocks(settings: MoveSettings): Promise<MoveResult> {
  const { plan } = settings.cache;
  const batches = Math.ceil(plan.blocks / settings.blocksPerBatch);
  const latency = new LatencyHistogram();
  let bytes = 0;
  let next = 0;

  const moveOne = async (index: number, notify?: NotificationContent) => {
    const requests = requestsOf(settings, index);
    const started = performance.now();
    const batch = settings.engine.createBatch(requests.length);
    batch.submit(requests, {
      timeoutMs: BATCH_TIMEOUT_MS,
      transport: settings.transport,
      ...(notify === undefined ? {} : { notify }),
    });
    const { state, bytes: moved, error } = await batch.settled;
    batch.free();
    if (state !== TaskState.completed) {
      throw error ?? new EngineError('ERR_TE_INTERNAL', `a batch ended in state ${state}`);
    }
    latency.recordMs(performance.now() - started);
    bytes += moved;
    settings.onProgress(bytes);
  };
  const worker = async () => {
    while (next < batches - 1) {
      next += 1;
      await moveOne(next - 1);
    }
  };

  const started = performance.now();
  await Promise.all(Array.from({ length: settings.batchesInFlight }, worker));
  await moveOne(batches - 1, settings.notify);
  return { bytes, batches, elapsedMs: performance.now() - started, latency };
}

function requestsOf(settings: MoveSettings, index: number): BatchRequest[] {
  const { cache, peer, opcode, blocksPerBatch } = settings;
  const { plan, role } = cache;
  const peerRole = role === 'prefill' ? 'decode' : 'prefill';
  const end = Math.min((index + 1) * blocksPerBatch, plan.blocks);
  const requests: BatchRequest[] = [];
  for (let block = index * blocksPerBatch; block < end; block += 1) {
    const layer = plan.layer(block);
    const remote = peer.buffers[layer];
    if (remote === undefined || remote.length !== plan.layerBytes) {
      throw new EngineError(
        'ERR_TE_SEGMENT_NOT_FOUND',
        `segment ${peer.name} does not offer layer ${layer} of ${plan.layerBytes} bytes`,
      );
    }
    requests.push({
      opcode,
      segment: peer,
      local: regionOf(cache.regions, layer),
      localOffset: plan.offset(role, block),
      remoteAddress: remote.address + BigInt(plan.offset(peerRole, block)),
      length: plan.length(block),
    });
  }
  return requests;
}

function regionOf(regions: readonly MemoryRegion[], layer: number): MemoryRegion {
  const region = regions[layer];
  if (region === undefined) throw new EngineError('ERR_TE_INTERNAL', `no layer ${layer}`);
  return region;
}
