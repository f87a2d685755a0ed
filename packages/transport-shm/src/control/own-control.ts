import { randomBytes, randomInt } from 'node:crypto';
import { EngineError } from '@transfer-engine/core/transport';
import type { NativeMemory } from '../ffi/native-memory.ts';
import { newControlName } from '../objects/object-names.ts';
import type { ProcessIdentity } from '../objects/process-identity.ts';
import { createObject, removeObject } from '../objects/shared-object.ts';
import {
  ANY_TAG,
  CONTROL_BYTES,
  CONTROL_MAGIC,
  EngineState,
  HAZARDS,
  HAZARDS_AT,
  HEADER_BYTES,
  MAGIC_AT,
  NAMESPACE_AT,
  PID_AT,
  ROWS,
  ROWS_USED_AT,
  ROW_BYTES,
  START_TIME_AT,
  STATE_AT,
  TAG_AT,
  TOKEN_AT,
  TOKEN_BYTES,
  VERSION_AT,
  encodeRow,
  type ControlRow,
} from './control-layout.ts';
import { ControlPages } from './control-pages.ts';

/** The control object of this engine. Only this class writes to it. */
export class OwnControl {
  readonly name: string;
  readonly path: string;
  /** As published: who knows it has read our document. */
  readonly token: string;
  readonly tag: number;
  readonly #pages: ControlPages;
  #version = 0;
  readonly #freeRows: number[] = [];
  #rowsUsed = 0;
  /** Engines held that have no slot of their own. */
  #unnamed = 0;
  #closed = false;
  readonly #freeHazards: number[] = Array.from({ length: HAZARDS - 1 }, (_, index) => index + 1);

  private constructor(pages: ControlPages, name: string, path: string, token: Buffer, tag: number) {
    this.#pages = pages;
    this.name = name;
    this.path = path;
    this.token = token.toString('hex');
    this.tag = tag;
  }

  /** @throws EngineError `ERR_TE_MEMORY` */
  static async create(
    directory: string,
    identity: ProcessIdentity,
    native: NativeMemory | undefined,
  ): Promise<OwnControl> {
    const object = await createObject({
      ...{ directory, native, size: CONTROL_BYTES },
      makeName: () => newControlName(identity.pid),
    });
    const pages = new ControlPages(native, object.fd, true);
    const token = randomBytes(TOKEN_BYTES);
    // Neither 0 nor ANY_TAG.
    const tag = randomInt(1, ANY_TAG);
    const header = Buffer.alloc(HAZARDS_AT);
    token.copy(header, TOKEN_AT);
    header.writeUInt32LE(identity.pid, PID_AT);
    header.writeUInt32LE(EngineState.open, STATE_AT);
    header.writeDoubleLE(identity.startTime, START_TIME_AT);
    header.writeDoubleLE(identity.namespace, NAMESPACE_AT);
    header.writeUInt32LE(tag, TAG_AT);
    pages.write(0, header);
    // Last, so that nobody takes a half-written header for one.
    pages.write(MAGIC_AT, CONTROL_MAGIC);
    return new OwnControl(pages, object.name, object.path, token, tag);
  }

  /**
   * Takes a row.
   * @throws EngineError `ERR_TE_MEMORY` when all are taken
   */
  claim(row: ControlRow): number {
    const index = this.#freeRows.pop() ?? this.#rowsUsed;
    if (index >= ROWS) {
      throw new EngineError(
        'ERR_TE_MEMORY',
        `an engine offers at most ${ROWS} regions of shared memory; allocate fewer and larger ones`,
      );
    }
    this.change(index, row);
    return index;
  }

  /** Writes a row again; peers see either the old or the new one. */
  change(index: number, row: ControlRow): void {
    this.#update(() => {
      this.#pages.write(HEADER_BYTES + index * ROW_BYTES, encodeRow(row));
      if (index < this.#rowsUsed) return;
      this.#rowsUsed = index + 1;
      this.#pages.setWord(ROWS_USED_AT, this.#rowsUsed);
    });
  }

  free(index: number): void {
    if (this.#closed) return;
    this.#update(() => {
      this.#pages.write(HEADER_BYTES + index * ROW_BYTES, Buffer.alloc(ROW_BYTES));
    });
    this.#freeRows.push(index);
  }

  /** Says that memory of the engine with this tag is touched within this turn of the event loop. */
  enter(tag: number): void {
    if (this.#unnamed === 0) this.#pages.setWord(HAZARDS_AT, tag);
  }

  leave(): void {
    if (this.#unnamed === 0) this.#pages.setWord(HAZARDS_AT, 0);
  }

  /** The same for longer. @returns what {@link letGo} wants */
  hold(tag: number): number {
    const slot = this.#freeHazards.pop();
    if (slot === undefined) {
      // No room to name everybody: whoever asks has to wait.
      this.#unnamed += 1;
      this.#pages.setWord(HAZARDS_AT, ANY_TAG);
      return 0;
    }
    this.#pages.setWord(HAZARDS_AT + 4 * slot, tag);
    return slot;
  }

  letGo(slot: number): void {
    if (slot === 0) {
      this.#unnamed -= 1;
      this.leave();
      return;
    }
    this.#pages.setWord(HAZARDS_AT + 4 * slot, 0);
    this.#freeHazards.push(slot);
  }

  /** Peers see that the engine is gone; the object is removed. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#pages.setWord(STATE_AT, EngineState.closed);
    removeObject(this.path);
    this.#pages.close();
  }

  #update(write: () => void): void {
    this.#pages.setWord(VERSION_AT, (this.#version += 1));
    write();
    this.#pages.setWord(VERSION_AT, (this.#version += 1));
  }
}
