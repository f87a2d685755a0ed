import type { ErrorCode } from '../base/error-codes.ts';
import { EngineError } from '../base/errors.ts';
import { Outcome, OUTCOME_NAMES } from '../transport/outcome.ts';
import { Opcode } from '../transport/slice.ts';
import type { ByteRange, DestinationReport } from './row-damage.ts';
import type { Submission } from './submission.ts';

/** Ranges spelled out in a message; the report has all of them. */
const RANGES_IN_MESSAGE = 4;

/** The deadline of a submission came. */
export function timeoutError(submission: Submission, waitedMs: number): EngineError {
  return new EngineError(
    'ERR_TE_TIMEOUT',
    `the transfer to "${submission.peer.name}" did not end within ${Math.round(waitedMs)} ms; ` +
      'raise timeoutMs, or check the peer with probe()',
    { details: { timeoutMs: waitedMs } },
  );
}

/** Nothing moved for too long. */
export function stalledError(submission: Submission): EngineError {
  return new EngineError(
    'ERR_TE_STALLED',
    `nothing moved to or from "${submission.peer.name}" for ${submission.stallMs} ms; check the peer ` +
      'with probe(), or raise stallTimeoutMs',
    { details: { stallTimeoutMs: submission.stallMs } },
  );
}

/** Why a slice was given up. */
export function sliceError(
  outcome: Outcome,
  cause: EngineError | undefined,
  attempts: number,
  budgetSpent: boolean,
): EngineError {
  const reason = cause === undefined ? reasonOf(outcome) : withoutCode(cause);
  const tries = attempts === 1 ? '' : ` (${attempts} attempts)`;
  const budget = budgetSpent ? '; this peer has used up its retries' : '';
  return new EngineError(cause?.code ?? codeOf(outcome), `${reason}${tries}${budget}`, {
    cause,
    details: { ...cause?.details, attempts },
  });
}

/** A slice that would be replayed, if its old bytes could not arrive in between. */
const isUnproved = (outcome: Outcome) => outcome === Outcome.replay || outcome === Outcome.canceled;

const codeOf = (outcome: Outcome): ErrorCode =>
  isUnproved(outcome) ? 'ERR_TE_PEER_LOST' : 'ERR_TE_INTERNAL';

function reasonOf(outcome: Outcome): string {
  return isUnproved(outcome)
    ? 'its connection was given up because of another transfer, and the peer did not confirm that ' +
        'it is done with it; check the peer with probe()'
    : OUTCOME_NAMES[outcome];
}

/** The error of one row: what was tried, where, how far it came, and what may still happen there. */
export function errorOfRow(
  submission: Submission,
  row: number,
  error: EngineError,
  destination: DestinationReport,
): EngineError {
  const address = submission.addressOf(row);
  const length = submission.columns.length[row] as number;
  const bytesDone = destination.appliedRanges.reduce((sum, [, bytes]) => sum + bytes, 0);
  const opcode = submission.opcodeOf(row) === Opcode.write ? 'WRITE' : 'READ';
  const peer = submission.peer.name;
  return new EngineError(
    error.code,
    `${opcode} of ${length} bytes at 0x${address.toString(16)} of "${peer}" ended after ${bytesDone} ` +
      `bytes: ${withoutCode(error)}${describeDestination(destination)}`,
    {
      cause: error,
      details: {
        ...error.details,
        ...{ peer, address, length, bytesDone, destination: destination.state },
      },
    },
  );
}

function describeDestination({ state, unknownRanges }: DestinationReport): string {
  if (state !== 'unknown') return '';
  const ranges = unknownRanges.slice(0, RANGES_IN_MESSAGE).map(describeRange).join(', ');
  const more = unknownRanges.length > RANGES_IN_MESSAGE ? ' and more' : '';
  return `. Nobody can vouch for bytes ${ranges}${more} of the destination: they may still change`;
}

function describeRange([offset, length]: ByteRange): string {
  return `[${offset}, ${offset + length})`;
}

function withoutCode(error: EngineError): string {
  return error.message.startsWith(`${error.code}: `)
    ? error.message.slice(error.code.length + 2)
    : error.message;
}
