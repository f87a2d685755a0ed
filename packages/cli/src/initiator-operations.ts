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
import { reportOf, type ErrorReport } from './failures.ts';
import type { EventValue } from './output.ts';
import { fillOpposite, fillPattern, findMismatch, patternByte } from './patterns.ts';

export const OPERATIONS = [
  'write',
  'read',
  'verify',
  'notify',
  'notifybyname',
  'writenotify',
  'probe',
  'wait',
  'info',
] as const;
export type Operation = (typeof OPERATIONS)[number];

/** The bytes arrived and are not what they should be: found by the CLI, not by the engine. */
const DATA_MISMATCH = 'ERR_TE_DATA_MISMATCH';

export interface OperationSettings {
  /** Address of the first request's first byte. */
  readonly remoteAddress: bigint;
  /** Position of that byte in the pattern. */
  readonly offset: number;
  /** Bytes of each request. */
  readonly length: number;
  readonly batch: number;
  readonly writeSeed: number;
  /** Seed of the target's fill pattern, when verify shall compare with it. */
  readonly readSeed: number | undefined;
  readonly notification: NotificationContent;
  readonly timeoutMs: number;
}

export interface OperationResult {
  readonly ok: boolean;
  readonly us: number;
  /** Payload bytes that were moved. */
  readonly bytes: number;
  readonly error?: ErrorReport;
  readonly facts: Readonly<Record<string, EventValue>>;
}

interface Done {
  readonly bytes?: number;
  readonly error?: ErrorReport;
  readonly facts?: Readonly<Record<string, EventValue>>;
}

/** The operations of `te initiator`, on one segment and one registered local buffer. */
export class InitiatorOperations {
  readonly #engine: Engine;
  readonly #segment: Segment;
  readonly #settings: OperationSettings;
  readonly #local: MemoryRegion;
  /** The bytes that take part in transfers; the region has at least one byte. */
  readonly #bytes: Buffer;

  private constructor(
    engine: Engine,
    segment: Segment,
    settings: OperationSettings,
    local: MemoryRegion,
  ) {
    this.#engine = engine;
    this.#segment = segment;
    this.#settings = settings;
    this.#local = local;
    this.#bytes = local.bytes.subarray(0, settings.length * settings.batch);
  }

  static async prepare(
    engine: Engine,
    segment: Segment,
    settings: OperationSettings,
  ): Promise<InitiatorOperations> {
    const total = settings.length * settings.batch;
    const memory = allocate(Math.max(1, total));
    const local = await engine.registerMemory(memory, { permission: 'local-read-write' });
    return new InitiatorOperations(engine, segment, settings, local);
  }

  /** Runs one operation; failures are part of the result. The time is that of the engine's part. */
  async run(operation: Operation): Promise<OperationResult> {
    const { writeSeed, readSeed, offset } = this.#settings;
    const writes = operation === 'write' || operation === 'writenotify';
    if (writes) await fillPattern(this.#bytes, writeSeed, offset);
    // Whatever stays of this was not read.
    if (operation === 'verify') await fillOpposite(this.#bytes, readSeed ?? writeSeed, offset);
    const started = performance.now();
    let done: Done;
    try {
      done = await this.#perform(operation);
    } catch (thrown) {
      done = { error: reportOf(thrown) };
    }
    const us = Math.round((performance.now() - started) * 1e3);
    const { bytes = 0, facts = {} } = done;
    const error = done.error ?? (operation === 'verify' ? await this.#compare() : undefined);
    return { ok: error === undefined, us, bytes, facts, ...(error === undefined ? {} : { error }) };
  }

  async #perform(operation: Operation): Promise<Done> {
    const { notification, timeoutMs } = this.#settings;
    switch (operation) {
      case 'write':
        return await this.#move('write');
      case 'read':
      case 'verify':
        return await this.#move('read');
      case 'writenotify':
        return await this.#move('write', notification);
      case 'notify':
        await this.#engine.notify(this.#segment, notification, { timeoutMs });
        return {};
      case 'notifybyname':
        await this.#engine.notify(this.#segment.name, notification, { timeoutMs });
        return {};
      case 'probe':
        return await this.#probe();
      case 'wait':
        return await this.#wait();
      case 'info':
        return { facts: this.#info() };
    }
  }

  async #move(opcode: OpcodeName, notify?: NotificationContent): Promise<Done> {
    const { batch: count, length, remoteAddress, timeoutMs } = this.#settings;
    const requests: BatchRequest[] = [];
    for (let k = 0; k < count; k += 1) {
      requests.push({
        opcode,
        segment: this.#segment,
        local: this.#local,
        localOffset: k * length,
        remoteAddress: remoteAddress + BigInt(k * length),
        length,
      });
    }
    const batch = this.#engine.createBatch(count);
    batch.submit(requests, { timeoutMs, ...(notify === undefined ? {} : { notify }) });
    const { state, bytes, error } = await batch.settled;
    batch.free();
    if (state === TaskState.completed) return { bytes };
    return {
      bytes,
      error: reportOf(
        error ?? new EngineError('ERR_TE_INTERNAL', `the batch ended in state ${state}`),
      ),
    };
  }

  async #probe(): Promise<Done> {
    const { timeoutMs } = this.#settings;
    if (await this.#engine.probe(this.#segment, { timeoutMs })) return {};
    return {
      error: reportOf(
        new EngineError(
          'ERR_TE_ENDPOINT',
          `the control port of ${this.#segment.name} does not answer; check that the peer runs`,
        ),
      ),
    };
  }

  /** The next notification, also one that came before; later ones stay for the next wait. */
  async #wait(): Promise<Done> {
    const { timeoutMs } = this.#settings;
    const signal = AbortSignal.timeout(timeoutMs);
    for await (const { name, message } of this.#engine.notifications({ signal })) {
      return { facts: { items: [{ name, msg: message }] } };
    }
    return {
      error: reportOf(
        new EngineError('ERR_TE_TIMEOUT', `no notification arrived within ${timeoutMs} ms`),
      ),
    };
  }

  #info(): Readonly<Record<string, EventValue>> {
    return {
      buffers: this.#segment.buffers.map(({ name, address, length }, index) => ({
        index,
        addr: address.toString(),
        length,
        name,
      })),
    };
  }

  async #compare(): Promise<ErrorReport | undefined> {
    const { readSeed, writeSeed, offset } = this.#settings;
    const seed = readSeed ?? writeSeed;
    const at = await findMismatch(this.#bytes, seed, offset);
    if (at === -1) return undefined;
    const wanted = patternByte(offset + at, seed);
    return {
      code: DATA_MISMATCH,
      message:
        `${DATA_MISMATCH}: byte ${offset + at} of the remote range is ${this.#bytes[at] ?? 'missing'}, ` +
        `expected ${wanted} of the pattern with seed ${seed}`,
    };
  }
}

function allocate(total: number): Buffer {
  try {
    return Buffer.allocUnsafeSlow(total);
  } catch (cause) {
    throw new EngineError(
      'ERR_TE_MEMORY',
      `a local buffer of ${total} bytes (--length times --batch) cannot be allocated; use less`,
      { cause },
    );
  }
}
