import { crc32 } from 'node:zlib';
import {
  AddressSpace,
  BufferStore,
  MemoryRegistry,
  Opcode,
  Outcome,
  seededRandom,
  Slice,
  type Aftermath,
  type Permission,
  type Random,
  type RegisteredRegion,
  type SliceRun,
} from '@transfer-engine/core/transport';
import { describe, expect, it } from 'vitest';
import { TcpCounters } from '../counters.ts';
import {
  decodeExtendedAnswer,
  decodeToken,
  encodeExtendedAnswer,
  ExtendedAnswer,
  ExtendedStatus,
  HelloKind,
} from '../wire/extended-frames.ts';
import { FaultWriter, REPLAY, type Fault } from './fault.ts';
import { createScratch } from './frame-reader.ts';
import { InitiatorMachine } from './initiator-machine.ts';
import type { Report } from './slice-ledger.ts';
import { TargetMachine } from './target-machine.ts';
import { TokenTable } from './token-table.ts';
import { SlabPool, TransmitGroup } from './transmit-group.ts';

/** Seeds of one run of the suite; TE_SEED=n runs that one alone. */
const SEEDS = 12_000;
const INSTANCE = '0123456789abcdef';
const GUARD = 24;
const GUARD_BYTE = 0xa5;
const POISON = 0xee;

const faults = new FaultWriter('peer:1');
const slabs = new SlabPool();
const scratch = createScratch();
const CLOSED: Fault = faults.closed();

/** One slice and what has become of it. */
class Piece {
  readonly opcode: Opcode;
  /** Bytes that the transfer should bring to its destination. */
  readonly expected: Buffer;
  readonly local: BufferStore;
  readonly length: number;
  readonly address: bigint;
  readonly checksum: boolean;
  /** Undefined when the target has to refuse it. */
  readonly remote: Buffer | undefined;
  outcome: Outcome | undefined;
  attempt = 0;
  /** Refused, ok, canceled, or failed: nothing follows. */
  final = false;

  constructor(random: Random, opcode: Opcode, length: number, remote: Buffer | bigint) {
    this.opcode = opcode;
    this.length = length;
    this.checksum = random.uint32() % 2 === 0;
    this.expected = fill(random, Buffer.alloc(length));
    const whole = Buffer.alloc(length + 2 * GUARD, GUARD_BYTE);
    this.local = new BufferStore(whole);
    if (typeof remote === 'bigint') {
      this.remote = undefined;
      this.address = remote;
    } else {
      this.remote = remote;
      this.address = 0n;
    }
    const source = opcode === Opcode.write ? this.near : this.remote;
    if (source !== undefined) this.expected.copy(source);
    if (opcode === Opcode.read) this.near.fill(0);
  }

  get near(): Buffer {
    return this.local.bytes.subarray(GUARD, GUARD + this.length);
  }
}

interface Place {
  readonly piece: Piece;
  readonly address: bigint;
  readonly checked: boolean;
}

/** Pieces that are posted together; the machine sees them as one run. */
class PieceRun implements SliceRun {
  readonly pieces: Place[];
  readonly ended: Outcome[] = [];
  taken = 0;
  canceled = false;

  constructor(pieces: Place[]) {
    this.pieces = pieces;
  }

  peek(into: Slice): boolean {
    const next = this.pieces[this.taken];
    if (next === undefined) return false;
    into.opcode = next.piece.opcode;
    into.store = next.piece.local;
    into.offset = GUARD;
    into.length = next.piece.length;
    into.addressLow = Number(next.address & 0xffff_ffffn);
    into.addressHigh = Number(next.address >> 32n);
    into.checksum = next.checked;
    return true;
  }

  take(): void {
    this.taken += 1;
  }
}

/** Bytes on their way in one direction; the kernel's copy of what was written. */
class Pipe {
  #chunks: Buffer[] = [];
  length = 0;

  /** @param flip a bit of the last byte changes on the way */
  push(bytes: Buffer, flip = false): void {
    const copy = Buffer.from(bytes);
    if (flip) copy[copy.length - 1] = (copy.at(-1) as number) ^ 0x40;
    this.#chunks.push(copy);
    this.length += bytes.length;
  }

  /** Copies at most `limit` bytes out. */
  pull(into: Buffer, limit: number): number {
    const all =
      this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks);
    const count = all.copy(into, 0, 0, Math.min(limit, into.length));
    this.#chunks = count < all.length ? [all.subarray(count)] : [];
    this.length -= count;
    return count;
  }
}

/** The end of a connection that writes groups: takes them over in pieces, as a kernel does. */
class Outlet {
  readonly group: TransmitGroup;
  #at = 0;

  constructor(limitBytes: number) {
    this.group = new TransmitGroup(slabs, limitBytes);
  }

  get busy(): boolean {
    return this.group.bytes > 0;
  }

  /**
   * @param flips bits of payload that may still be changed on the way
   * @returns whether the group has been written
   */
  move(random: Random, pipe: Pipe, flips: { left: number }): boolean {
    const chunk = this.group.chunks[0] as Buffer;
    const count = pick(random, chunk.length - this.#at);
    // Frames lie in slabs of this size, payload in memory of its own.
    const isPayload = chunk.buffer.byteLength !== 32 * 1024;
    const flip = isPayload && flips.left > 0;
    if (flip) flips.left -= 1;
    pipe.push(chunk.subarray(this.#at, this.#at + count), flip);
    this.#at += count;
    if (this.#at < chunk.length) return false;
    this.#at = 0;
    this.group.chunks.shift();
    if (this.group.chunks.length > 0) return false;
    this.group.clear();
    return true;
  }
}

/** A connection between an initiator machine and a target machine. */
class Connection {
  readonly initiator: InitiatorMachine;
  readonly target: TargetMachine;
  readonly #random: Random;
  readonly #report: Report;
  readonly #toTarget = new Pipe();
  readonly #toInitiator = new Pipe();
  readonly #out: Outlet;
  readonly #back: Outlet;
  readonly #flips: { left: number };
  readonly #tokens = new TokenTable();
  readonly #token: Buffer;

  constructor(
    random: Random,
    registry: MemoryRegistry,
    groupBytes: number,
    flips: { left: number },
    extended: boolean,
    report: Report,
  ) {
    this.#flips = flips;
    this.#token = Buffer.from(Array.from({ length: 16 }, () => random.uint32() & 0xff));
    const hello = { kind: HelloKind.open, instance: INSTANCE, token: this.#token };
    const limits = {
      version: 2,
      slices: 1 << (random.uint32() % 5),
      bytes: 200_000,
      extended: extended ? { hello, checksum: crc32 } : undefined,
    } as const;
    this.initiator = new InitiatorMachine(limits, scratch, faults);
    this.target = new TargetMachine({
      registry,
      scratch,
      counters: new TcpCounters(),
      onRefused: () => undefined,
      extended: { instance: INSTANCE, tokens: this.#tokens, checksum: crc32 },
    });
    this.#random = random;
    this.#report = report;
    this.#out = new Outlet(groupBytes);
    this.#back = new Outlet(groupBytes);
  }

  get quiet(): boolean {
    return (
      !this.initiator.hasWork &&
      !this.target.hasWork &&
      !this.#out.busy &&
      !this.#back.busy &&
      this.#toTarget.length + this.#toInitiator.length === 0
    );
  }

  /** One step of one of the four movers. */
  step(): void {
    const { initiator, target } = this;
    switch (this.#random.uint32() % 4) {
      case 0:
        if (!this.#out.busy) initiator.transmit(this.#out.group);
        if (this.#out.busy && this.#out.move(this.#random, this.#toTarget, this.#flips)) {
          initiator.transmitted();
          initiator.settle(this.#report);
        }
        return;
      case 1:
        if (this.#toTarget.length === 0 || target.paused) return;
        target.received(this.#pull(this.#toTarget, target.receiveTarget()));
        return;
      case 2:
        if (!this.#back.busy) target.transmit(this.#back.group);
        if (this.#back.busy && this.#back.move(this.#random, this.#toInitiator, this.#flips)) {
          target.transmitted();
        }
        return;
      default:
        if (this.#toInitiator.length === 0 || initiator.fault !== undefined) return;
        initiator.received(this.#pull(this.#toInitiator, initiator.receiveTarget()));
        initiator.settle(this.#report);
    }
  }

  cancel(run: SliceRun): void {
    this.initiator.cancel(run, this.#report);
    this.initiator.settle(this.#report);
  }

  /**
   * The target ends the connection at the wish of the initiator, and tells how far it came.
   *
   * @returns false when the target does not know the connection (yet)
   */
  abort(): boolean {
    const facts = this.#tokens.abort(decodeToken(this.#token, 0));
    if (facts === undefined) return false;
    // Some of what was under way still comes: answers count, requests do not.
    for (let step = this.#random.uint32() % 8; step > 0; step -= 1) this.step();
    if (this.initiator.fault !== undefined) return false;
    const frame = Buffer.alloc(24);
    const view = new DataView(frame.buffer, frame.byteOffset, 24);
    const { nextId, served, appliedBytes, inProgress } = facts;
    const { aborted } = ExtendedStatus;
    encodeExtendedAnswer(view, 0, aborted, nextId, served, appliedBytes, inProgress);
    const answer = new ExtendedAnswer();
    decodeExtendedAnswer(frame, 0, answer);
    if (!this.initiator.takeFacts(answer)) throw new Error('the facts do not fit');
    return true;
  }

  /** The socket is gone on both sides. */
  end(cause: Fault, everybody: boolean): void {
    this.initiator.finish(this.#report, cause, everybody);
    this.#out.group.clear();
    this.target.close();
    this.#back.group.clear();
  }

  #pull(pipe: Pipe, target: Buffer): number {
    return pipe.pull(target, pick(this.#random, Math.min(pipe.length, target.length)));
  }
}

/** A length of 1 … max that prefers the ends. */
function pick(random: Random, max: number): number {
  const kind = random.uint32() % 4;
  if (kind === 0) return max;
  if (kind === 1) return Math.min(max, 1 + (random.uint32() % 30));
  return 1 + Math.floor(random.float() * max);
}

function fill(random: Random, bytes: Buffer): Buffer {
  let state = random.uint32();
  for (let index = 0; index < bytes.length; index += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    // Neither the guard nor the poison occurs in data.
    bytes[index] = (state >>> 25) + 1;
  }
  return bytes;
}

/** Everything of one seed. */
class World {
  readonly #random: Random;
  readonly #registry: MemoryRegistry;
  readonly #big: boolean;
  readonly #region: RegisteredRegion;
  readonly #secret: RegisteredRegion;
  readonly #memory: Buffer;
  readonly #pieces: Piece[] = [];
  readonly #runs = new Set<PieceRun>();
  #again: Place[] = [];
  readonly #extended: boolean;
  readonly #flips: { left: number };
  readonly #flipsWanted: number;
  #corrupt = 0;
  #disturbed = false;
  /** Facts of an abort are being reported: they are exact. */
  #exact = false;
  #connection: Connection;

  constructor(seed: number, extended: boolean, flips = 0) {
    const random = seededRandom(seed);
    this.#extended = extended;
    this.#flipsWanted = flips;
    this.#flips = { left: flips };
    this.#random = random;
    this.#registry = new MemoryRegistry(new AddressSpace(random));
    const big = random.uint32() % 40 === 0;
    this.#big = big;
    this.#memory = Buffer.alloc(big ? 600_000 : 6000, GUARD_BYTE);
    const add = (bytes: Buffer, permission: Permission) =>
      this.#registry.add([{ store: new BufferStore(bytes), permission, location: '*' }])[0];
    this.#region = add(this.#memory, 'global-read-write') as RegisteredRegion;
    this.#secret = add(Buffer.alloc(500, 1), 'local-read-write') as RegisteredRegion;
    this.#plan(big);
    this.#connection = this.#connect();
  }

  /** @returns how many slices were found to be corrupt */
  run(): number {
    let faultsLeft = this.#flipsWanted > 0 ? 0 : this.#random.uint32() % 4;
    for (let step = 0; this.#open() && step < 100_000; step += 1) {
      this.#postSome();
      this.#connection.step();
      if (this.#connection.initiator.fault !== undefined) this.#reconnect(CLOSED, false);
      else if (faultsLeft > 0 && this.#random.uint32() % 60 === 0) {
        faultsLeft -= 1;
        this.#disturb();
      } else if (this.#connection.quiet && this.#connection.target.ending !== undefined) {
        this.#reconnect(faults.peerLost(undefined, 'closed'), false);
      }
    }
    if (this.#open()) throw new Error('it goes on for ever');
    this.#check();
    if (this.#corrupt !== this.#flipsWanted - this.#flips.left) {
      throw new Error('a changed byte was not noticed');
    }
    return this.#corrupt;
  }

  #connect(): Connection {
    const groupBytes = this.#big ? 20_000 + pick(this.#random, 500_000) : pick(this.#random, 600);
    return new Connection(
      this.#random,
      this.#registry,
      groupBytes,
      this.#flips,
      this.#extended,
      (run, count, outcome, error, quiescent) =>
        this.#ended(run as PieceRun, count, outcome, error !== undefined, quiescent),
    );
  }

  #plan(big: boolean): void {
    const random = this.#random;
    const count = 1 + (random.uint32() % 12);
    let at = GUARD;
    for (let index = 0; index < count; index += 1) {
      const opcode = random.uint32() % 2 === 0 ? Opcode.read : Opcode.write;
      const length = big && index < 3 ? 130_000 + (random.uint32() % 20_000) : pick(random, 400);
      const base = BigInt(this.#region.address);
      if (random.uint32() % 10 === 0 && this.#flipsWanted === 0) {
        const bad = [
          base + BigInt(this.#memory.length - length + 1),
          BigInt(this.#secret.address),
          0n,
          2n ** 64n - 1n,
          base + 2n ** 60n,
        ][random.uint32() % 5] as bigint;
        const piece = new Piece(random, opcode, length, bad);
        this.#pieces.push(piece);
        this.#push(piece, bad);
        continue;
      }
      if (at + length + GUARD > this.#memory.length) break;
      const piece = new Piece(random, opcode, length, this.#memory.subarray(at, at + length));
      this.#pieces.push(piece);
      this.#push(piece, base + BigInt(at));
      at += length + GUARD;
    }
  }

  #push(piece: Piece, address: bigint): void {
    const checked = this.#extended && (this.#flipsWanted > 0 || piece.checksum);
    this.#again.push({ piece, address, checked });
  }

  #open(): boolean {
    return this.#pieces.some(({ final }) => !final);
  }

  #postSome(): void {
    if (this.#again.length > 0 && this.#random.uint32() % 3 === 0) {
      const size = 1 + (this.#random.uint32() % this.#again.length);
      this.#runs.add(new PieceRun(this.#again.splice(0, size)));
    }
    const { initiator } = this.#connection;
    const slice = new Slice();
    for (const run of this.#runs) {
      while (run.peek(slice) && initiator.fits(slice.length)) {
        initiator.accept(run, slice);
        run.take();
      }
    }
  }

  #disturb(): void {
    this.#disturbed = true;
    if (this.#extended && this.#random.uint32() % 2 === 0) {
      this.#exact = this.#connection.abort();
      // An abort comes from a wish to cancel, or from a deadline.
      const cause = this.#random.uint32() % 2 === 0 ? REPLAY : faults.timeout(undefined, 'silent');
      this.#reconnect(cause, false);
      this.#exact = false;
      return;
    }
    const runs = [...this.#runs];
    const run = runs[this.#random.uint32() % (runs.length + 1)];
    const what = this.#random.uint32() % 4;
    if (what < 2 && run !== undefined) {
      run.canceled = true;
      this.#connection.cancel(run);
    } else if (what === 2) {
      this.#reconnect(faults.peerLost(undefined, 'lost'), false);
    } else {
      this.#reconnect(faults.timeout(undefined, 'silent'), false);
    }
  }

  #reconnect(cause: Fault, everybody: boolean): void {
    this.#connection.end(cause, everybody);
    for (const run of this.#runs) {
      if (run.ended.length !== run.taken) throw new Error('a slice has no outcome after the end');
    }
    this.#connection = this.#connect();
  }

  #ended(
    run: PieceRun,
    count: number,
    outcome: Outcome,
    hasError: boolean,
    aftermath: Aftermath | undefined,
  ): void {
    for (let index = 0; index < count; index += 1) {
      const place = run.ended.push(outcome) - 1;
      if (place >= run.taken) throw new Error('an outcome for a slice that was not taken');
      const { piece, address } = run.pieces[place] as Place;
      if (piece.final) throw new Error('a second outcome');
      if (outcome === Outcome.canceled && !run.canceled) throw new Error('canceled without a wish');
      if (this.#extended && !this.#disturbed && outcome > Outcome.rejected) {
        if (outcome !== Outcome.corrupt) throw new Error('a refusal ended the connection');
      }
      piece.outcome = outcome;
      if (outcome === Outcome.ok) this.#expectMoved(piece, hasError);
      else this.#expectTold(piece, aftermath);
      const again = outcome === Outcome.replay || outcome === Outcome.peerLost;
      if (again || outcome === Outcome.timeout) this.#push(this.#copy(piece), address);
      piece.final = true;
      // From here on nobody may read or write the local memory.
      piece.near.fill(POISON);
    }
    if (run.ended.length === run.pieces.length) this.#runs.delete(run);
  }

  #expectMoved(piece: Piece, hasError: boolean): void {
    if (hasError || piece.remote === undefined) throw new Error('a wrong ok');
    const destination = piece.opcode === Opcode.read ? piece.near : piece.remote;
    if (!destination.equals(piece.expected)) throw new Error('ok, and the bytes are not there');
  }

  /** What a transport says about the destination of a slice that did not end well is true. */
  #expectTold(piece: Piece, aftermath: Aftermath | undefined): void {
    if (aftermath === undefined) throw new Error('nothing is told about the destination');
    if (piece.outcome === Outcome.replay && aftermath.destination === 'unknown') {
      throw new Error('what may still arrive is not to be sent again');
    }
    if (piece.outcome === Outcome.corrupt) {
      this.#corrupt += 1;
      if (aftermath.destination !== 'quiescent') throw new Error('garbage is not said to be there');
      return;
    }
    if (this.#exact && piece.remote !== undefined) this.#expectExact(piece, aftermath);
    if (piece.opcode === Opcode.write) {
      const untouched = aftermath.destination === 'untouched' && piece.attempt === 0;
      if (untouched && piece.remote?.every((byte) => byte === GUARD_BYTE) === false) {
        throw new Error('a destination that is said to be untouched has changed');
      }
      return;
    }
    if (aftermath.destination === 'unknown') throw new Error('local memory is never unknown');
    const done = aftermath.appliedBytes ?? 0;
    const { near } = piece;
    if (!near.subarray(0, done).equals(piece.expected.subarray(0, done))) {
      throw new Error('fewer bytes were read than told');
    }
    if (!near.subarray(done).every((byte) => byte === 0)) {
      throw new Error('more bytes were read than told');
    }
  }

  /** What the peer tells of a connection that it has ended is neither more nor less than true. */
  #expectExact(piece: Piece, aftermath: Aftermath): void {
    if (aftermath.destination === 'unknown') throw new Error('the peer told, and it is unknown');
    const { remote, expected } = piece;
    if (piece.opcode === Opcode.read || remote === undefined || piece.attempt > 0) return;
    // A refusal or a broken checksum whose answer was lost leaves this open.
    const quiet = aftermath.destination === 'quiescent' && aftermath.appliedBytes === undefined;
    if (quiet) return;
    const applied = aftermath.appliedBytes ?? 0;
    if (!remote.subarray(0, applied).equals(expected.subarray(0, applied))) {
      throw new Error('fewer bytes were applied than told');
    }
    if (!remote.subarray(applied).every((byte) => byte === GUARD_BYTE)) {
      throw new Error('more bytes were applied than told');
    }
  }

  /** The same transfer with fresh local memory: the old one stays poisoned. */
  #copy(piece: Piece): Piece {
    const copy = new Piece(
      this.#random,
      piece.opcode,
      piece.length,
      piece.remote === undefined ? 0n : Buffer.alloc(piece.length),
    );
    piece.expected.copy(copy.expected);
    if (piece.opcode === Opcode.write) piece.expected.copy(copy.near);
    (copy as { remote: Buffer | undefined }).remote = piece.remote;
    copy.attempt = piece.attempt + 1;
    this.#pieces.push(copy);
    return copy;
  }

  #check(): void {
    for (let step = 0; step < 50; step += 1) this.#connection.step();
    this.#connection.end(CLOSED, true);
    for (const piece of this.#pieces) {
      if (!piece.final) throw new Error('a slice never ended');
      if (piece.remote === undefined && piece.outcome === Outcome.ok)
        throw new Error('ok of a bad address');
      if (piece.remote !== undefined && piece.outcome === Outcome.rejected)
        throw new Error('a good address was refused');
      if (!piece.near.every((byte) => byte === POISON))
        throw new Error('local memory changed after the outcome');
      const { bytes } = piece.local;
      for (const guard of [bytes.subarray(0, GUARD), bytes.subarray(GUARD + piece.length)]) {
        if (!guard.every((byte) => byte === GUARD_BYTE))
          throw new Error('a byte beside the local window changed');
      }
    }
    if (this.#memory.includes(POISON)) throw new Error('a source was read after its outcome');
    if (this.#region.pins + this.#secret.pins > 0) throw new Error('a region is still pinned');
    if (!(this.#secret.store as BufferStore).bytes.every((byte) => byte === 1))
      throw new Error('forbidden memory changed');
    this.#checkRemoteGuards();
  }

  #checkRemoteGuards(): void {
    const covered = Buffer.alloc(this.#memory.length);
    for (const { remote } of this.#pieces) {
      if (remote?.buffer !== this.#memory.buffer) continue;
      const at = remote.byteOffset - this.#memory.byteOffset;
      covered.fill(1, at, at + remote.length);
    }
    for (let index = 0; index < covered.length; index += 1) {
      if (covered[index] === 0 && this.#memory[index] !== GUARD_BYTE)
        throw new Error('a byte beside a remote window changed');
    }
  }
}

function runSeed(seed: number, extended: boolean, flips = 0): number {
  try {
    return new World(seed, extended, flips).run();
  } catch (thrown) {
    throw new Error(`seed ${seed} (run it alone with TE_SEED=${seed}): ${String(thrown)}`, {
      cause: thrown,
    });
  }
}

/** Other seeds every time; a failure prints its own. */
function seeds(count: number): number[] {
  const given = process.env['TE_SEED'];
  if (given !== undefined) return [Number(given)];
  const first = Math.floor(Math.random() * 2 ** 31);
  return Array.from({ length: count }, (_, index) => first + index);
}

describe('initiator machine against target machine', () => {
  it('keeps its promises through splits, losses and disconnects', { timeout: 120_000 }, () => {
    for (const seed of seeds(SEEDS)) runSeed(seed, false);
  });

  it('keeps them in framing x1, and through aborts', { timeout: 120_000 }, () => {
    for (const seed of seeds(SEEDS)) runSeed(seed, true);
  });

  it('notices every bit that changes in a payload with checksum', { timeout: 120_000 }, () => {
    let corrupt = 0;
    for (const seed of seeds(3000)) corrupt += runSeed(seed, true, 1);
    expect(corrupt).toBeGreaterThan(0);
  });
});
