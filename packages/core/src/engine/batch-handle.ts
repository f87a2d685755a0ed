import { TaskState } from '../base/error-codes.ts';
import { deferred, type Deferred } from '../base/deferred.ts';
import { EngineError, invalidArgument } from '../base/errors.ts';
import type { PeerQueue, Submission } from '../transfer/index.ts';
import type {
  Batch,
  BatchRequest,
  BatchStatus,
  TaskStatus,
  TransferNotification,
  TransferOptions,
} from './engine-api.ts';
import { outcomeOf, type Placement, type Transfers } from './transfers.ts';

/** Requests of one call of `submit`, which share options. */
interface Group {
  readonly submissions: Set<Submission>;
  open: number;
  readonly notify: { readonly peer: PeerQueue; readonly content: TransferNotification } | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: () => void;
}

/** A batch as users hold it: a list of requests, each placed in a submission. */
export class BatchHandle implements Batch {
  readonly capacity: number;
  readonly #transfers: Transfers;
  #placements: Placement[] = [];
  readonly #submissions = new Set<Submission>();
  /** Groups whose requests or notification have not ended. */
  #openGroups = 0;
  #settled: Deferred<BatchStatus> | undefined;
  #notifyError: EngineError | undefined;
  #freed = false;

  constructor(capacity: number, transfers: Transfers) {
    if (!Number.isSafeInteger(capacity) || capacity < 1) {
      throw invalidArgument('capacity', capacity, 'a positive integer');
    }
    this.capacity = capacity;
    this.#transfers = transfers;
  }

  get size(): number {
    return this.#placements.length;
  }

  get settled(): Promise<BatchStatus> {
    if (this.#openGroups === 0) return Promise.resolve(this.overall());
    this.#settled ??= deferred();
    return this.#settled.promise;
  }

  submit(requests: readonly BatchRequest[], options: TransferOptions = {}): void {
    const transfers = this.#transfers;
    transfers.deps.assertOpen();
    this.#assertNotFreed();
    if (!Array.isArray(requests))
      throw invalidArgument('requests', requests, 'an array of requests');
    if (this.size + requests.length > this.capacity) {
      throw new EngineError(
        'ERR_TE_TOO_MANY_REQUESTS',
        `${requests.length} requests do not fit: the batch has ${this.size} of ${this.capacity}. ` +
          'Create it with a larger capacity, or use another batch',
        { details: { size: this.size, capacity: this.capacity, requests: requests.length } },
      );
    }
    if (requests.length === 0 && options.notify !== undefined) {
      throw invalidArgument(
        'requests',
        'empty',
        'at least one request when a notification goes with it',
      );
    }
    const checkedOptions = transfers.checkOptions(options);
    const checked = transfers.checkAll(requests, checkedOptions);
    const first = checked[0];
    if (first === undefined) return;
    const group: Group = {
      submissions: new Set(),
      open: 0,
      notify: options.notify && { peer: first.peer, content: options.notify },
      signal: options.signal,
      onAbort: () => {
        for (const submission of group.submissions)
          transfers.cancel(submission, options.signal?.reason);
      },
    };
    const placements = transfers.start(checked, checkedOptions, () => this.#onSettled(group));
    for (const placement of placements) {
      this.#placements.push(placement);
      this.#submissions.add(placement.submission);
      group.submissions.add(placement.submission);
    }
    group.open = group.submissions.size;
    this.#openGroups += 1;
    group.signal?.addEventListener('abort', group.onAbort, { once: true });
  }

  status(index: number): TaskStatus {
    const placement = this.#placements[index];
    if (placement === undefined) {
      throw invalidArgument('index', index, `an integer from 0 to ${this.size - 1}`);
    }
    const { submission, row } = placement;
    const state = submission.states[row] as TaskState;
    const failure = submission.failures?.get(row);
    const bytes = submission.bytesOf(row);
    if (failure !== undefined) return { state, bytes, ...failure };
    if (!isFailure(state) || submission.firstError === undefined) return { state, bytes };
    return { state, bytes, error: submission.firstError };
  }

  overall(): BatchStatus {
    let [bytes, open, failed, attempts, elapsedMs] = [0, 0, 0, 1, 0];
    let durability: 'applied' | 'sent' = 'applied';
    let transport = '';
    let error: EngineError | undefined;
    for (const submission of this.#submissions) {
      bytes += submission.bytes;
      open += submission.rowsLeft;
      failed += submission.rowsFailed;
      attempts = Math.max(attempts, submission.attempts);
      elapsedMs = Math.max(elapsedMs, submission.settledMs - submission.startedMs);
      if (submission.durability === 'sent') durability = 'sent';
      transport ||= submission.usedTransport;
      error ??= submission.firstError;
    }
    const state = this.#stateOf(open, failed);
    return {
      state,
      bytes,
      tasks: this.size,
      completed: this.size - open - failed,
      failed,
      durability,
      attempts,
      transport,
      elapsedMs,
      ...(error === undefined ? {} : { error }),
      ...(this.#notifyError === undefined ? {} : { notifyError: this.#notifyError }),
    };
  }

  cancel(reason?: unknown): Promise<BatchStatus> {
    const { settled } = this;
    for (const submission of this.#submissions) this.#transfers.cancel(submission, reason);
    return settled;
  }

  free(): void {
    this.#assertNotFreed();
    if (this.#openGroups > 0) {
      throw new EngineError(
        'ERR_TE_BATCH_BUSY',
        'the batch has requests that have not ended; await batch.settled or batch.cancel() first',
      );
    }
    this.#freed = true;
    this.#transfers.recycle(this.#submissions);
    this.#placements = [];
    this.#submissions.clear();
  }

  #stateOf(open: number, failed: number): TaskState {
    if (open > 0) return TaskState.waiting;
    if (failed === 0) return TaskState.completed;
    for (const { submission, row } of this.#placements) {
      const state = submission.states[row] as TaskState;
      if (isFailure(state)) return state;
    }
    return TaskState.failed;
  }

  #onSettled(group: Group): void {
    group.open -= 1;
    if (group.open > 0) return;
    group.signal?.removeEventListener('abort', group.onAbort);
    const { notify } = group;
    const submissions = [...group.submissions];
    const failed = submissions.find((submission) => submission.rowsFailed > 0);
    if (notify === undefined) return this.#groupEnded();
    if (failed !== undefined) {
      if (notify.content.on !== 'settled') return this.#groupEnded();
      const outcome = outcomeOf(failed) === 'canceled' ? 'canceled' : 'failed';
      const told = this.#transfers.notifyFailed(notify.peer, notify.content, outcome);
      void told.then(() => this.#groupEnded());
      return;
    }
    const bytes = submissions.reduce((sum, submission) => sum + submission.bytes, 0);
    this.#transfers.notifyCompleted(notify.peer, notify.content, bytes).then(
      () => this.#groupEnded(),
      (error: unknown) => {
        this.#notifyError ??= EngineError.from(error);
        this.#groupEnded();
      },
    );
  }

  #groupEnded(): void {
    this.#openGroups -= 1;
    if (this.#openGroups > 0) return;
    const settled = this.#settled;
    this.#settled = undefined;
    settled?.resolve(this.overall());
  }

  #assertNotFreed(): void {
    if (this.#freed)
      throw new EngineError('ERR_TE_CLOSED', 'the batch was freed; create another one');
  }
}

function isFailure(state: TaskState): boolean {
  return (
    state !== TaskState.waiting && state !== TaskState.pending && state !== TaskState.completed
  );
}
