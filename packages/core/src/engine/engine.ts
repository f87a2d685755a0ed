import type { CancelTimer, Clock } from '../base/clock.ts';
import { EngineError, invalidArgument } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { ControlListener } from '../control/control-links.ts';
import type { NotifyInbox } from '../control/notify-inbox.ts';
import type { MemoryRegistry } from '../memory/memory-registry.ts';
import type { MemoryLike } from '../memory/buffer-store.ts';
import type { RegisteredRegion } from '../memory/registered-region.ts';
import type { SegmentDirectory } from '../metadata/segment-directory.ts';
import type { PeerQueue, Submission, TransferMachine } from '../transfer/index.ts';
import type { Transport } from '../transport/transport.ts';
import type { NotifyDocument, NotifyOutcome } from '../wire/index.ts';
import { BatchHandle } from './batch-handle.ts';
import { transferColumns } from './column-transfer.ts';
import type { ControlCalls } from './control-calls.ts';
import type { Driver } from './driver.ts';
import type {
  AllocateOptions,
  Batch,
  ColumnResult,
  Columns,
  Engine,
  EngineStats,
  MemoryRegion,
  Notification,
  NotificationContent,
  OpenOptions,
  RegisterOptions,
  Segment,
  TransferNotification,
  TransferOptions,
  TransferRequest,
  TransferResult,
} from './engine-api.ts';
import type { EngineConfig } from './engine-config.ts';
import type { LocalMemory } from './local-memory.ts';
import { LocalSegment } from './local-segment.ts';
import {
  checkSegmentName,
  SegmentHandle,
  segmentClosed,
  type SegmentTable,
} from './segment-table.ts';
import { checkNotification } from './transfer-requests.ts';
import { Transfers } from './transfers.ts';

/** Time that closing gives to withdrawing documents, in milliseconds. */
const WITHDRAW_MS = 3_000;

/** The rooms that an engine is made of; `createEngine` puts them together. */
export interface EngineParts {
  readonly config: EngineConfig;
  readonly segmentName: string;
  readonly address: { readonly host: string; readonly rpcPort: number };
  readonly clock: Clock;
  readonly logger: Logger;
  readonly driver: Driver;
  readonly machine: TransferMachine;
  readonly registry: MemoryRegistry;
  readonly memory: LocalMemory;
  readonly transports: readonly Transport[];
  readonly directory: SegmentDirectory;
  readonly segments: SegmentTable;
  readonly controlServer: ControlListener;
  readonly control: ControlCalls;
  readonly inbox: NotifyInbox<NotifyDocument>;
}

/** The engine as users hold it: names the rooms and joins them; no logic of its own. */
export class TransferEngineCore implements Engine {
  readonly segmentName: string;
  readonly address: { readonly host: string; readonly rpcPort: number };
  readonly localSegment: LocalSegment;
  readonly #parts: EngineParts;
  readonly #transfers: Transfers;
  #closing: Promise<void> | undefined;
  #cancelRefresh: CancelTimer | undefined;
  #notificationsSent = 0;
  #draining = false;

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.segmentName = parts.segmentName;
    this.address = parts.address;
    this.localSegment = new LocalSegment(parts);
    this.#transfers = new Transfers({
      machine: parts.machine,
      registry: parts.registry,
      clock: parts.clock,
      limits: parts.config.limits,
      transportNames: new Set(parts.transports.map((transport) => transport.name)),
      peerOf: (segment, argument) => this.#peerOf(segment, argument),
      assertOpen: () => this.#assertTakesTransfers(),
      logger: parts.logger,
      notify: (peer, notification, outcome) => this.#notifyOf(peer, notification, outcome),
    });
    this.#scheduleRefresh();
  }

  async registerMemory(memory: MemoryLike, options: RegisterOptions = {}): Promise<MemoryRegion> {
    const [region] = await this.registerMemoryBatch([memory], options);
    return region as MemoryRegion;
  }

  async registerMemoryBatch(
    list: readonly MemoryLike[],
    options: RegisterOptions = {},
  ): Promise<MemoryRegion[]> {
    this.#assertOpen();
    if (!Array.isArray(list)) throw invalidArgument('list', list, 'an array of memory');
    if (list.length === 0) return [];
    return this.#parts.memory.register(list, options);
  }

  async allocateMemory(length: number, options: AllocateOptions = {}): Promise<MemoryRegion> {
    this.#assertOpen();
    return this.#parts.memory.allocate(length, options);
  }

  async openSegment(name: string, options: OpenOptions = {}): Promise<Segment> {
    this.#assertOpen();
    const stripped = checkSegmentName(name);
    options.signal?.throwIfAborted();
    if (stripped === this.segmentName) return this.localSegment;
    const handle = await this.#parts.segments.open(stripped, this.#waitOptions(options));
    if (this.#closing !== undefined) {
      await handle.close();
      this.#assertOpen();
    }
    return handle;
  }

  createBatch(capacity: number): Batch {
    this.#assertTakesTransfers();
    return new BatchHandle(capacity, this.#transfers);
  }

  submitColumns(
    segment: Segment,
    columns: Columns,
    options: TransferOptions = {},
  ): Promise<ColumnResult> {
    return transferColumns(this.#transfers, segment, columns, options);
  }

  read(request: TransferRequest, options: TransferOptions = {}): Promise<TransferResult> {
    return this.#transfers.transfer(request, 'read', options);
  }

  write(request: TransferRequest, options: TransferOptions = {}): Promise<TransferResult> {
    return this.#transfers.transfer(request, 'write', options);
  }

  async notify(
    target: Segment | string,
    notification: NotificationContent,
    options: OpenOptions = {},
  ): Promise<void> {
    this.#assertOpen();
    checkNotification(notification, 'notification');
    await this.#send(this.#nameOf(target), notification, undefined, options);
  }

  notifications(options: { readonly signal?: AbortSignal } = {}): AsyncIterable<Notification> {
    this.#assertOpen();
    return toNotifications(this.#parts.inbox.iterate(options.signal));
  }

  takeNotifications(): Notification[] {
    return this.#parts.inbox.take().map(toNotification);
  }

  async probe(target: Segment | string, options: OpenOptions = {}): Promise<boolean> {
    this.#assertOpen();
    const name = this.#nameOf(target);
    if (name === this.segmentName) return true;
    return this.#parts.control.probe(name, this.#waitOptions(options));
  }

  stats(): EngineStats {
    const { machine, registry, segments, controlServer, inbox, transports } = this.#parts;
    const { counters } = machine;
    return {
      segments: segments.size,
      regions: registry.size,
      ...counters,
      notificationsSent: this.#notificationsSent,
      notificationsReceived: inbox.received,
      controlRejected: controlServer.stats().rejected,
      transports: Object.fromEntries(
        transports.map((transport) => [transport.name, transport.stats?.() ?? {}]),
      ),
    };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async drain(options: { readonly deadlineMs?: number } = {}): Promise<void> {
    this.#assertOpen();
    const { deadlineMs = this.#parts.config.limits.transferTimeoutMs } = options;
    if (typeof deadlineMs !== 'number' || !(deadlineMs >= 0)) {
      throw invalidArgument('deadlineMs', deadlineMs, 'milliseconds, 0 or more');
    }
    this.#draining = true;
    const running = [...this.#active()];
    const cancelTimer = this.#parts.clock.schedule(deadlineMs, () => {
      for (const submission of this.#active()) {
        this.#transfers.cancel(
          submission,
          new Error(`the engine was drained for ${deadlineMs} ms`),
        );
      }
    });
    await Promise.all(running.map(({ peer }) => peer.whenBelow(0)));
    cancelTimer();
  }

  /** Cancels own transfers that use a region as their local side. */
  cancelTransfersOf(region: RegisteredRegion): void {
    const reason = new Error(`region ${region.id} was unregistered`);
    for (const submission of [...this.#active()]) {
      if (submission.regions.includes(region)) this.#transfers.cancel(submission, reason);
    }
  }

  *#active(): Iterable<Submission> {
    yield* this.#parts.segments.active();
    yield* this.localSegment.queue.active;
  }

  /** Sends to a peer or, for the own name, into the own inbox. */
  async #send(
    name: string,
    content: NotificationContent,
    outcome: NotifyOutcome | undefined,
    options: OpenOptions,
  ): Promise<void> {
    const { inbox, control } = this.#parts;
    if (name !== this.segmentName) {
      await control.notify(name, content, outcome, this.#waitOptions(options));
    } else {
      const { message } = content;
      const extras = { instance: 'self', sequence: 1, segment: name };
      const marked = outcome === undefined ? extras : { ...extras, outcome };
      if (!inbox.push({ name: content.name, message, extras: marked })) {
        throw new EngineError(
          'ERR_TE_TOO_MANY_REQUESTS',
          'the own inbox is full; take notifications',
        );
      }
    }
    this.#notificationsSent += 1;
  }

  #notifyOf(
    peer: PeerQueue,
    { name, message }: TransferNotification,
    outcome: NotifyOutcome,
  ): Promise<void> {
    return this.#send(peer.name, { name, message }, outcome, {});
  }

  async #close(): Promise<void> {
    const {
      segments,
      directory,
      transports,
      control,
      controlServer,
      inbox,
      driver,
      machine,
      logger,
    } = this.#parts;
    this.#cancelRefresh?.();
    const error = new EngineError('ERR_TE_CLOSED', `the engine "${this.segmentName}" was closed`);
    // Peers first: nothing new comes for a segment that is no longer in the directory.
    const results = await Promise.allSettled([
      directory.withdraw({ timeoutMs: WITHDRAW_MS }),
      segments.closeAll(error),
      this.localSegment.closeQueue(error),
    ]);
    results.push(...(await Promise.allSettled(transports.map((transport) => transport.close()))));
    results.push(...(await Promise.allSettled([controlServer.close(), directory.close()])));
    results.push(...(await Promise.allSettled([this.#parts.memory.releaseAll()])));
    inbox.close();
    machine.pump(this.#parts.clock.nowMs());
    control.close(error);
    driver.stop();
    for (const result of results) {
      if (result.status === 'rejected') {
        logger.warn(
          { error: result.reason as unknown },
          'closing the engine left something behind',
        );
      }
    }
  }

  #peerOf(segment: unknown, argument: string): PeerQueue {
    if (segment instanceof SegmentHandle && segment.table === this.#parts.segments) {
      if (segment.closed) throw segmentClosed(segment.name);
      return segment.remote.queue;
    }
    if (segment === this.localSegment) return this.localSegment.queue;
    throw invalidArgument(argument, segment, 'a segment that this engine opened');
  }

  #nameOf(target: Segment | string): string {
    if (typeof target === 'string') return checkSegmentName(target);
    if (target instanceof SegmentHandle || target instanceof LocalSegment) return target.name;
    throw invalidArgument('target', target, 'a segment that this engine opened, or a name');
  }

  #waitOptions(options: OpenOptions): OpenOptions & { readonly timeoutMs: number } {
    const timeoutMs = options.timeoutMs ?? this.#parts.config.limits.controlTimeoutMs;
    if (typeof timeoutMs !== 'number' || !(timeoutMs > 0)) {
      throw invalidArgument('timeoutMs', timeoutMs, 'milliseconds above 0');
    }
    return { ...options, timeoutMs };
  }

  #assertOpen(): void {
    if (this.#closing === undefined) return;
    throw new EngineError(
      'ERR_TE_CLOSED',
      `the engine "${this.segmentName}" was closed; create another one`,
    );
  }

  #assertTakesTransfers(): void {
    this.#assertOpen();
    if (!this.#draining) return;
    throw new EngineError(
      'ERR_TE_CLOSED',
      `the engine "${this.segmentName}" is being drained and takes no new transfers`,
    );
  }

  #scheduleRefresh(): void {
    const { refreshIntervalMs, limits } = this.#parts.config;
    if (refreshIntervalMs === 0) return;
    this.#cancelRefresh = this.#parts.clock.schedule(refreshIntervalMs, () => {
      void this.#parts.segments.refreshAll(limits.controlTimeoutMs).finally(() => {
        if (this.#closing === undefined) this.#scheduleRefresh();
      });
    });
  }
}

function toNotification({ name, message, extras }: NotifyDocument): Notification {
  if (extras === undefined) return { name, message };
  const { segment: from, outcome } = extras;
  return outcome === undefined ? { name, message, from } : { name, message, from, outcome };
}

async function* toNotifications(
  items: AsyncIterable<NotifyDocument>,
): AsyncGenerator<Notification> {
  for await (const item of items) yield toNotification(item);
}
