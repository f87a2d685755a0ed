import type { Clock } from '../base/clock.ts';
import { EngineError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { MemoryRegistry } from '../memory/memory-registry.ts';
import {
  CANCEL_GRACE_MS,
  RowColumnsPool,
  type PeerQueue,
  type Submission,
  type TransferMachine,
} from '../transfer/index.ts';
import type { NotifyOutcome } from '../wire/index.ts';
import type {
  BatchRequest,
  EngineLimits,
  OpcodeName,
  TransferNotification,
  TransferOptions,
  TransferRequest,
  TransferResult,
} from './engine-api.ts';
import {
  checkOptions,
  checkOverlap,
  checkPeer,
  checkRequest,
  recycle,
  toSubmission,
  type CheckedOptions,
  type CheckedRequest,
  type PeerLookup,
} from './transfer-requests.ts';

export interface TransfersDeps {
  readonly machine: TransferMachine;
  readonly registry: MemoryRegistry;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits: EngineLimits;
  readonly transportNames: ReadonlySet<string>;
  readonly peerOf: PeerLookup;
  /** Throws when the engine is closed or closing. */
  assertOpen(): void;
  /** Sends a notification that belongs to a transfer. */
  notify(
    peer: PeerQueue,
    notification: TransferNotification,
    outcome: NotifyOutcome,
  ): Promise<void>;
}

/** Where one request of a caller went. */
export interface Placement {
  readonly submission: Submission;
  readonly row: number;
}

/** Turns validated requests into submissions and submissions into results. */
export class Transfers {
  readonly deps: TransfersDeps;
  readonly #pool = new RowColumnsPool();

  constructor(deps: TransfersDeps) {
    this.deps = deps;
  }

  checkOptions(options: TransferOptions): CheckedOptions {
    const checked = checkOptions(options, this.deps.limits, this.deps.transportNames);
    if (options.signal?.aborted === true) throw options.signal.reason;
    return checked;
  }

  check(request: TransferRequest, opcode: OpcodeName, argument: string): CheckedRequest {
    return checkRequest(request, opcode, argument, this.deps.peerOf, this.deps.registry);
  }

  checkAll(requests: readonly BatchRequest[], options: CheckedOptions): CheckedRequest[] {
    const checked = requests.map((request, index) =>
      this.check(request, request.opcode, `requests[${index}]`),
    );
    for (const peer of new Set(checked.map((request) => request.peer))) checkPeer(peer, options);
    if (options.overlap === 'refuse') checkOverlap(checked, 'requests');
    return checked;
  }

  /** Starts requests that may go to different peers; one submission for each peer. */
  start(
    requests: readonly CheckedRequest[],
    options: CheckedOptions,
    onSettled: (submission: Submission) => void,
  ): Placement[] {
    const byPeer = new Map<PeerQueue, CheckedRequest[]>();
    const rows = requests.map((request) => {
      const list = byPeer.get(request.peer);
      if (list === undefined) byPeer.set(request.peer, [request]);
      else list.push(request);
      return (list?.length ?? 1) - 1;
    });
    const submissions = new Map<PeerQueue, Submission>();
    for (const [peer, list] of byPeer) {
      submissions.set(
        peer,
        toSubmission(list, options, this.deps.limits.sliceBytes, this.#pool, onSettled),
      );
    }
    for (const submission of submissions.values()) this.submit(submission, options.timeoutMs);
    return requests.map((request, index) => ({
      submission: submissions.get(request.peer) as Submission,
      row: rows[index] as number,
    }));
  }

  submit(submission: Submission, timeoutMs: number): void {
    const nowMs = this.deps.clock.nowMs();
    this.deps.machine.submit(submission, nowMs, nowMs + timeoutMs);
  }

  /** One request, one promise. */
  async transfer(
    request: TransferRequest,
    opcode: OpcodeName,
    options: TransferOptions,
  ): Promise<TransferResult> {
    this.deps.assertOpen();
    const checkedOptions = this.checkOptions(options);
    const checked = this.check(request, opcode, 'request');
    checkPeer(checked.peer, checkedOptions);
    const submission = await this.#run(checked, checkedOptions, options.signal);
    const outcome = outcomeOf(submission);
    const result = resultOf(submission);
    recycle(submission, this.#pool);
    const { notify } = options;
    if (outcome === 'completed') {
      if (notify !== undefined) await this.notifyCompleted(checked.peer, notify, result.bytes);
      return result;
    }
    if (notify?.on === 'settled') await this.notifyFailed(checked.peer, notify, outcome);
    if (options.signal?.aborted === true && outcome === 'canceled') throw options.signal.reason;
    throw submission.firstError as EngineError;
  }

  /** Gives back what settled submissions used; nothing of them may be read by row after this. */
  recycle(submissions: Iterable<Submission>): void {
    for (const submission of submissions) recycle(submission, this.#pool);
  }

  /** Sends the notification that belongs to completed requests. */
  async notifyCompleted(
    peer: PeerQueue,
    notification: TransferNotification,
    bytesMoved: number,
  ): Promise<void> {
    try {
      await this.deps.notify(peer, notification, 'completed');
    } catch (error) {
      const cause = EngineError.from(error);
      throw new EngineError(
        cause.code,
        `all ${bytesMoved} bytes were moved, but the notification "${notification.name}" did not reach ` +
          `"${peer.name}"; send it again with notify()`,
        { cause, details: { peer: peer.name, bytesDone: bytesMoved, transferCompleted: true } },
      );
    }
  }

  /** Tells a peer that a transfer failed. That it did is what the caller hears in any case. */
  async notifyFailed(
    peer: PeerQueue,
    notification: TransferNotification,
    outcome: 'failed' | 'canceled',
  ): Promise<void> {
    await this.deps.notify(peer, notification, outcome).catch((error: unknown) => {
      this.deps.logger.warn(
        { peer: peer.name, error },
        'could not tell a peer that a transfer failed',
      );
    });
  }

  cancel(submission: Submission, reason: unknown): void {
    this.deps.machine.end(submission, canceledError(submission, reason), CANCEL_GRACE_MS);
  }

  #run(
    request: CheckedRequest,
    options: CheckedOptions,
    signal: AbortSignal | undefined,
  ): Promise<Submission> {
    const { limits } = this.deps;
    return new Promise((resolve) => {
      if (signal === undefined) {
        const submission = toSubmission([request], options, limits.sliceBytes, this.#pool, resolve);
        this.submit(submission, options.timeoutMs);
        return;
      }
      const onAbort = () => this.cancel(submission, signal.reason);
      const onSettled = (settled: Submission) => {
        signal.removeEventListener('abort', onAbort);
        resolve(settled);
      };
      const submission = toSubmission([request], options, limits.sliceBytes, this.#pool, onSettled);
      signal.addEventListener('abort', onAbort, { once: true });
      this.submit(submission, options.timeoutMs);
    });
  }
}

/** How a settled submission ended, in the words of a notification. */
export function outcomeOf(submission: Submission): NotifyOutcome {
  if (submission.rowsFailed === 0) return 'completed';
  return submission.firstError?.code === 'ERR_TE_CANCELED' ? 'canceled' : 'failed';
}

export function resultOf(submission: Submission): TransferResult {
  return {
    bytes: submission.bytes,
    durability: submission.durability,
    attempts: submission.attempts,
    transport: submission.usedTransport,
    elapsedMs: submission.settledMs - submission.startedMs,
  };
}

function canceledError(submission: Submission, reason: unknown): EngineError {
  return new EngineError(
    'ERR_TE_CANCELED',
    `the transfer to "${submission.peer.name}" was canceled after ${submission.bytes} bytes`,
    { cause: reason, details: { peer: submission.peer.name, bytesDone: submission.bytes } },
  );
}
