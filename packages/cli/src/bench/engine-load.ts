import { monitorEventLoopDelay } from 'node:perf_hooks';
import {
  EngineError,
  TaskState,
  type BatchRequest,
  type Engine,
  type MemoryRegion,
  type Segment,
} from '@transfer-engine/core';
import { LatencyHistogram } from '../histogram.ts';
import type { Workload } from './workload.ts';

export interface LoadResult {
  readonly bytes: number;
  readonly requests: number;
  readonly elapsedMs: number;
  readonly latency: LatencyHistogram;
  readonly transport: string;
  readonly cpuSeconds: number;
  readonly loopDelayP99Ms: number;
}

/** Keeps `depth` batches in flight through the engine; requests are built once and used again. */
export class EngineLoad {
  readonly #engine: Engine;
  readonly #workload: Workload;
  readonly #options: { readonly timeoutMs: number };
  /** One list of requests for each batch in flight. */
  readonly #slots: readonly (readonly BatchRequest[])[];

  constructor(
    engine: Engine,
    segment: Segment,
    local: MemoryRegion,
    remoteAddress: bigint,
    workload: Workload,
    timeoutMs: number,
  ) {
    this.#engine = engine;
    this.#options = { timeoutMs };
    this.#workload = workload;
    const { op, block, batch, depth } = workload;
    this.#slots = Array.from({ length: depth }, (_, slot) =>
      Array.from({ length: batch }, (__, index) => {
        const offset = (slot * batch + index) * block;
        const opcode = op === 'mix' ? ((slot + index) % 2 === 0 ? 'write' : 'read') : op;
        return {
          opcode,
          segment,
          local,
          localOffset: offset,
          remoteAddress: remoteAddress + BigInt(offset),
          length: block,
        };
      }),
    );
  }

  /**
   * Runs for `durationMs`, and until the batches in flight have ended.
   *
   * @throws EngineError of the first request that failed
   */
  async run(durationMs: number, signal: AbortSignal): Promise<LoadResult> {
    const latency = new LatencyHistogram();
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    const cpu = process.cpuUsage();
    const started = performance.now();
    const progress = { batches: 0, transport: '', failure: undefined as EngineError | undefined };
    const goesOn = () =>
      progress.failure === undefined && !signal.aborted && performance.now() - started < durationMs;
    await Promise.all(
      this.#slots.map(async (requests) => {
        while (goesOn()) await this.#batch(requests, latency, progress);
      }),
    );
    const elapsedMs = performance.now() - started;
    const { user, system } = process.cpuUsage(cpu);
    delay.disable();
    if (progress.failure !== undefined) throw progress.failure;
    const requests = progress.batches * this.#workload.batch;
    return {
      bytes: requests * this.#workload.block,
      requests,
      elapsedMs,
      latency,
      transport: progress.transport,
      cpuSeconds: (user + system) / 1e6,
      loopDelayP99Ms: delay.percentile(99) / 1e6,
    };
  }

  async #batch(
    requests: readonly BatchRequest[],
    latency: LatencyHistogram,
    progress: { batches: number; transport: string; failure: EngineError | undefined },
  ): Promise<void> {
    const started = performance.now();
    const batch = this.#engine.createBatch(requests.length);
    batch.submit(requests, this.#options);
    const { state, error, transport } = await batch.settled;
    batch.free();
    if (state !== TaskState.completed) {
      progress.failure ??=
        error ?? new EngineError('ERR_TE_INTERNAL', `a batch ended in state ${state}`);
      return;
    }
    latency.recordMs(performance.now() - started);
    progress.batches += 1;
    progress.transport = transport;
  }
}
