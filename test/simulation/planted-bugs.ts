import { TaskState } from '../../packages/core/src/base/error-codes.ts';
import { NotifyInbox } from '../../packages/core/src/control/notify-inbox.ts';
import { ReceivedIds } from '../../packages/core/src/control/received-ids.ts';
import { ControlCalls } from '../../packages/core/src/engine/control-calls.ts';
import { Driver } from '../../packages/core/src/engine/driver.ts';
import { TransferEngineCore } from '../../packages/core/src/engine/engine.ts';
import { SegmentTable } from '../../packages/core/src/engine/segment-table.ts';
import { Transfers } from '../../packages/core/src/engine/transfers.ts';
import { AddressSpace } from '../../packages/core/src/memory/address-space.ts';
import { MemoryRegistry } from '../../packages/core/src/memory/memory-registry.ts';
import type { RegisteredRegion } from '../../packages/core/src/memory/registered-region.ts';
import { SimTransport } from '../../packages/core/src/testing/index.ts';
import {
  PeerQueue,
  standardRetryPolicy,
  Submission,
  TransferMachine,
  type RetryPolicy,
} from '../../packages/core/src/transfer/index.ts';
import { RetryBudget } from '../../packages/core/src/transfer/retry.ts';
import { RowDamage } from '../../packages/core/src/transfer/row-damage.ts';
import { Outcome } from '../../packages/core/src/transport/outcome.ts';
import { runEngineWorld } from './engine-workload.ts';
import { flood, heldPeer, quickCancel, sickPeer } from './scenarios.ts';

/** Takes a planted bug out again. */
type Undo = () => void;

export interface PlantedBug {
  readonly name: string;
  plant(): Undo;
  /** What is run for each seed. */
  readonly run: (seed: number) => Promise<unknown>;
  /** What the oracle says of it. */
  readonly caughtAs: RegExp;
}

type Method = (...args: never[]) => unknown;
type MethodNames<T> = {
  [K in keyof T]: T[K] extends Method ? K : never;
}[keyof T];

/** Puts another method in the place of one; the bugs live in tests alone. */
function patch<T extends object, K extends MethodNames<T>>(
  type: { readonly prototype: T },
  name: K,
  make: (original: T[K]) => T[K],
): Undo {
  const { prototype } = type;
  const original = prototype[name];
  prototype[name] = make(original);
  return () => {
    prototype[name] = original;
  };
}

/** True for every n-th call. */
function every(n: number): () => boolean {
  let calls = 0;
  return () => (calls += 1) % n === 0;
}

let retryPolicy: RetryPolicy = standardRetryPolicy;

const world = (seed: number): Promise<unknown> => runEngineWorld(seed);

export const PLANTED_BUGS: readonly PlantedBug[] = [
  {
    name: 'early completion: a slice whose connection was lost counts as done',
    plant: () =>
      patch(TransferMachine, 'complete', (original) => {
        return function (this: TransferMachine, run, count, outcome, error, aftermath) {
          if (outcome !== Outcome.peerLost)
            original.call(this, run, count, outcome, error, aftermath);
          else original.call(this, run, count, Outcome.ok);
        };
      }),
    run: world,
    caughtAs: /completed, and its bytes are not there/,
  },
  {
    name: 'late write after cancel: the user hears of it before the slices are quiet',
    plant: () =>
      patch(TransferMachine, 'end', (original) => {
        return function (this: TransferMachine, submission, error, graceMs) {
          original.call(this, submission, error, graceMs);
          // When segments close, routes end what they have at once: there is no time in between.
          if (submission.settled || error.code === 'ERR_TE_CLOSED') return;
          const { rowsLeft, rowsFailed } = submission;
          submission.states.forEach((state, row) => {
            if (row >= submission.columns.count || state !== TaskState.waiting) return;
            submission.states[row] = TaskState.canceled;
            submission.rowsFailed += 1;
          });
          submission.rowsLeft = 0;
          submission.firstError ??= error;
          const tell = submission.onSettled;
          submission.onSettled = () => undefined;
          tell(submission);
          setImmediate(() => Object.assign(submission, { rowsLeft, rowsFailed }));
        };
      }),
    run: world,
    caughtAs: /was read after|was written after|changed after/,
  },
  {
    name: 'lost slice: an outcome is forgotten',
    plant: () => {
      const isLost = every(40);
      return patch(TransferMachine, 'complete', (original) => {
        return function (this: TransferMachine, ...call) {
          if (!isLost()) original.apply(this, call);
        };
      });
    },
    run: world,
    caughtAs: /has not ended by|had to by|is not settled/,
  },
  {
    name: 'double completion: an outcome counts for the next slice too',
    plant: () =>
      patch(TransferMachine, 'complete', (original) => {
        return function (this: TransferMachine, run, count, outcome, error, aftermath) {
          const left = (run as unknown as { readonly left: number }).left - count;
          original.call(this, run, count, outcome, error, aftermath);
          if (outcome === Outcome.ok && left > 0) original.call(this, run, 1, outcome);
        };
      }),
    run: world,
    caughtAs:
      /completed, and its bytes are not there|no more outcomes|belongs to a run|is undefined/,
  },
  {
    name: 'leaked lane: connections stay when nobody has the segment open',
    plant: () =>
      patch(SegmentTable, 'release', (original) => {
        return function (this: SegmentTable, remote) {
          for (const { route } of remote.queue.routes) route.close = () => Promise.resolve();
          return original.call(this, remote);
        };
      }),
    run: world,
    caughtAs: /at rest, and has routes/,
  },
  {
    name: 'leaked timer: the driver goes on after the end',
    plant: () => patch(Driver, 'stop', () => () => undefined),
    run: world,
    caughtAs: /left \d+ timers/,
  },
  {
    name: 'ignored deadline',
    plant: () => patch(Submission, 'onExpire', () => () => undefined),
    run: world,
    caughtAs: /has not ended by|had to by/,
  },
  {
    name: 'ignored stall bound',
    plant: () =>
      patch(Submission, 'onExpire', (original) => {
        return function (this: Submission, nowMs) {
          this.progressed = true;
          original.call(this, nowMs);
        };
      }),
    run: heldPeer,
    caughtAs: /nothing moved for/,
  },
  {
    name: 'ignored abort',
    plant: () => patch(Transfers, 'cancel', () => () => undefined),
    run: quickCancel,
    caughtAs: /a cancelled batch took|0 failed/,
  },
  {
    name: 'wrong range: a report claims a byte too many',
    plant: () =>
      patch(RowDamage, 'report', (original) => {
        return function (this: RowDamage, applied) {
          const report = original.call(this, applied);
          const appliedRanges = report.appliedRanges.map(
            ([offset, length]) => [offset, length + 1] as const,
          );
          return { ...report, appliedRanges };
        };
      }),
    run: world,
    caughtAs: /are not there, as it says|with a range of/,
  },
  {
    name: 'wrong range: what may still change is called quiet',
    plant: () =>
      patch(RowDamage, 'report', (original) => {
        return function (this: RowDamage, applied) {
          const report = original.call(this, applied);
          if (report.state !== 'unknown') return report;
          return { ...report, state: 'quiescent', unknownRanges: [] };
        };
      }),
    run: world,
    caughtAs: /changed after it had ended/,
  },
  {
    name: 'a destination that was written to is called untouched',
    plant: () =>
      patch(RowDamage, 'add', (original) => {
        return function (this: RowDamage, part, length) {
          original.call(this, part, length);
        };
      }),
    run: world,
    caughtAs: /told to be untouched, and its destination was written|changed after it had ended/,
  },
  {
    name: 'wrong address: later slices of a range go one byte too far',
    plant: () =>
      patch(Submission, 'describe', (original) => {
        return function (this: Submission, row, part, length, into) {
          original.call(this, row, part, length, into);
          if (part > 0) into.addressLow += 1;
        };
      }),
    run: world,
    caughtAs: /are not there|nobody named|is there/,
  },
  {
    name: 'unfair: a higher priority always goes first',
    plant: () =>
      patch(PeerQueue, 'dequeue', () => {
        return function (this: PeerQueue) {
          const queue = this.waiting.find(({ length }) => length > 0);
          const submission = queue?.shift();
          if (submission !== undefined) submission.queued = false;
          return submission;
        };
      }),
    run: flood,
    caughtAs: /starved for/,
  },
  {
    name: 'retries without end',
    plant: () => patch(RetryBudget, 'spend', () => () => true),
    run: sickPeer,
    caughtAs: /cost \d+ retries/,
  },
  {
    name: 'retry although the last attempt may still arrive',
    plant: () => {
      retryPolicy = (facts) => standardRetryPolicy({ ...facts, quiescent: true });
      return () => {
        retryPolicy = standardRetryPolicy;
      };
    },
    run: (seed) => runEngineWorld(seed, { retryPolicy }),
    caughtAs: /on its way twice/,
  },
  {
    name: 'lost notification',
    plant: () => {
      const isLost = every(5);
      return patch(NotifyInbox, 'push', (original) => {
        return function (this: NotifyInbox, item) {
          return isLost() ? true : original.call(this, item);
        };
      });
    },
    run: world,
    caughtAs: /was sent, and has not arrived/,
  },
  {
    name: 'duplicate notification: ids are not remembered',
    plant: () => patch(ReceivedIds, 'has', () => () => false),
    run: world,
    caughtAs: /arrived 2 times at one engine/,
  },
  {
    name: 'a notification tells of success whatever happened',
    plant: () =>
      patch(ControlCalls, 'notify', (original) => {
        return function (this: ControlCalls, name, content, outcome, options) {
          const told = outcome === undefined ? undefined : 'completed';
          return original.call(this, name, content, told, options);
        };
      }),
    run: world,
    caughtAs: /the outcome is (failed|canceled)/,
  },
  {
    name: 'stale generation: every start of an engine hands out the same addresses',
    plant: () => {
      const next = new WeakMap<AddressSpace, number>();
      return patch(AddressSpace, 'reserve', () => {
        return function (this: AddressSpace, length) {
          const address = next.get(this) ?? 2 ** 44;
          next.set(this, address + Math.ceil(length / 4096 + 1) * 4096);
          return address;
        };
      });
    },
    run: world,
    caughtAs: /has to refuse|nobody named|is there|are not there/,
  },
  {
    name: 'memory is served after it was unregistered',
    plant: () => {
      const retired = new WeakMap<MemoryRegistry, RegisteredRegion[]>();
      const undo = [
        patch(MemoryRegistry, 'retire', (original) => {
          return function (this: MemoryRegistry, region) {
            retired.set(this, [...(retired.get(this) ?? []), region]);
            original.call(this, region);
          };
        }),
        patch(MemoryRegistry, 'resolveRemote', (original) => {
          return function (this: MemoryRegistry, address, length, access) {
            const held = ({ address: from, end }: RegisteredRegion): boolean =>
              address >= from && address + length <= end;
            return original.call(this, address, length, access) ?? retired.get(this)?.find(held);
          };
        }),
        patch(SimTransport, 'serves', () => () => true),
      ];
      return () => undo.forEach((each) => each());
    },
    run: world,
    caughtAs: /after it had been unregistered|has to refuse|is there/,
  },
  {
    name: 'drain does not wait',
    plant: () => patch(TransferEngineCore, 'drain', () => () => Promise.resolve()),
    run: world,
    caughtAs: /are active after drain/,
  },
];
