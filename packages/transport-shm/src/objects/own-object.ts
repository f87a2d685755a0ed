import { closeSync } from 'node:fs';
import type { BufferStore, ByteStore } from '@transfer-engine/core/transport';
import type { NativeMemory } from '../ffi/native-memory.ts';
import { FileStore } from '../memory/file-store.ts';
import type { JobSlots } from '../memory/job-slots.ts';
import { storeOver } from '../memory/mapped-store.ts';
import { Mapping } from '../memory/mapping.ts';
import { removeObject, type SharedObject } from './shared-object.ts';

/** An object that this engine made, or was given by its user, with the memory in it. */
export class OwnObject {
  readonly name: string;
  readonly path: string;
  readonly inode: number;
  /** Bytes of the file. */
  readonly size: number;
  /** Where the memory starts in the file. */
  readonly start: number;
  readonly store: ByteStore;
  /** Row of the control object that records it. */
  readonly row: number;
  /** The engine made it, so it goes with the engine. */
  readonly created: boolean;
  readonly #mapping: Mapping | undefined;
  readonly #file: FileStore | undefined;

  /** Takes over `object`: its file is closed here, or with the memory. */
  constructor(init: {
    readonly object: SharedObject;
    readonly start: number;
    readonly length: number;
    readonly row: number;
    readonly created: boolean;
    readonly native: NativeMemory | undefined;
    readonly jobs: JobSlots;
  }) {
    const { object, start, length, native, jobs } = init;
    const { fd, path } = object;
    this.name = object.name;
    this.path = path;
    this.inode = object.inode;
    this.size = object.size;
    this.start = start;
    this.row = init.row;
    this.created = init.created;
    if (native === undefined) {
      this.#file = new FileStore({ fd, path, jobs, start, length });
      this.store = this.#file;
      return;
    }
    this.#mapping = Mapping.create(native, fd, start + length, { writable: true });
    closeSync(fd);
    this.store = storeOver(this.#mapping, start, length);
  }

  /** The memory that views of the object share. */
  get memories(): readonly ArrayBufferLike[] {
    return this.#mapping?.memories ?? [];
  }

  /** Where in the file the bytes of another store lie; undefined when they are not in it. */
  offsetOf(store: BufferStore): number | undefined {
    const base = this.#mapping?.offsetOf(store.bytes.buffer);
    return base === undefined ? undefined : base + store.bytes.byteOffset;
  }

  /** Takes the name away; the memory stays as long as somebody has it. */
  unlink(): void {
    if (this.created) removeObject(this.path);
  }

  /** Gives the memory back: views of it read zeros from now on. */
  release(): void {
    this.#mapping?.release();
    this.#file?.close();
  }
}
