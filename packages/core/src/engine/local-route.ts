import { EngineError } from '../base/errors.ts';
import { joinWords } from '../base/u64.ts';
import type { MemoryRegistry } from '../memory/memory-registry.ts';
import type { SegmentDraft } from '../segment/segment-descriptor.ts';
import { Outcome } from '../transport/outcome.ts';
import { Opcode, Slice, type SliceRun } from '../transport/slice.ts';
import type { CompletionSink, Peer, Route, Transport } from '../transport/transport.ts';

/** Bytes copied in one turn of the event loop: about 0.2 ms. */
const TURN_BYTES = 4 * 1024 * 1024;

/** The engine's own segment as a peer: transfers are copies inside this process. */
class LocalTransport implements Transport {
  readonly name = 'local';
  readonly capabilities = { needsRegisteredMemory: false };

  start(): Promise<void> {
    return Promise.resolve();
  }

  describe(_draft: SegmentDraft): void {}

  reach(): Route | undefined {
    return undefined;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Copies between two places in this process, at most {@link TURN_BYTES} a turn of the event loop. */
export class LocalRoute implements Route {
  readonly transport: Transport = new LocalTransport();
  readonly peer: Peer;
  readonly sliceBytes = TURN_BYTES / 4;
  readonly writeDurability = 'applied';
  /** The same memory is read and written: there is no way on which a bit could turn. */
  readonly checksums = true;
  readonly #registry: MemoryRegistry;
  readonly #sink: CompletionSink;
  readonly #slice = new Slice();
  /** Runs whose slices were copied, or refused, and are to be reported in the next turn. */
  #done: { run: SliceRun; count: number; outcome: Outcome; error?: EngineError }[] = [];
  #turnBytes = 0;
  #scheduled = false;
  #closed = false;

  constructor(peer: Peer, registry: MemoryRegistry, sink: CompletionSink) {
    this.peer = peer;
    this.#registry = registry;
    this.#sink = sink;
  }

  post(run: SliceRun): number {
    let taken = 0;
    const slice = this.#slice;
    while (!this.#closed && this.#turnBytes < TURN_BYTES && run.peek(slice)) {
      this.#copy(run, slice);
      this.#turnBytes += slice.length;
      run.take();
      taken += 1;
    }
    if ((taken > 0 || this.#turnBytes >= TURN_BYTES) && !this.#scheduled) {
      this.#scheduled = true;
      setImmediate(() => this.#report());
    }
    return taken;
  }

  /** Nothing is ever waiting: what was taken is done and only has to be reported. */
  cancel(): void {}

  close(): Promise<void> {
    this.#closed = true;
    this.#report();
    return Promise.resolve();
  }

  #copy(run: SliceRun, slice: Slice): void {
    const address = joinWords(slice.addressLow, slice.addressHigh);
    const access = slice.opcode === Opcode.write ? 'write' : 'read';
    const region = this.#registry.resolveRemote(address, slice.length, access);
    const local = slice.store?.view?.(slice.offset, slice.length);
    const remote = region?.store.view?.(address - region.address, slice.length);
    if (local === undefined || remote === undefined || remote.length < slice.length) {
      const error = new EngineError(
        'ERR_TE_ADDRESS_REJECTED',
        `${slice.length} bytes at 0x${address.toString(16)} are not inside registered memory that permits ${access}`,
        { details: { length: slice.length } },
      );
      this.#done.push({ run, count: 1, outcome: Outcome.rejected, error });
      return;
    }
    if (access === 'write') remote.set(local);
    else local.set(remote);
    const last = this.#done.at(-1);
    if (last?.run === run && last.outcome === Outcome.ok) last.count += 1;
    else this.#done.push({ run, count: 1, outcome: Outcome.ok });
  }

  #report(): void {
    this.#scheduled = false;
    const done = this.#done;
    this.#done = [];
    this.#turnBytes = 0;
    for (const { run, count, outcome, error } of done) {
      this.#sink.complete(run, count, outcome, error);
    }
    this.#sink.ready(this);
  }
}
