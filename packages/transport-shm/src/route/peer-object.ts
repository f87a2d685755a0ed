import { closeSync } from 'node:fs';
import { EngineError, type ByteStore } from '@transfer-engine/core/transport';
import type { ControlRow } from '../control/control-layout.ts';
import { NativeCallError } from '../ffi/native-call-error.ts';
import type { NativeMemory } from '../ffi/native-memory.ts';
import { FileStore } from '../memory/file-store.ts';
import type { JobSlots } from '../memory/job-slots.ts';
import { storeOver } from '../memory/mapped-store.ts';
import { Mapping } from '../memory/mapping.ts';
import { objectError } from '../objects/object-error.ts';
import { isObjectName } from '../objects/object-names.ts';
import { openObject, type SharedObject } from '../objects/shared-object.ts';

/** What a route needs to reach objects. */
export interface ObjectAccess {
  readonly directory: string;
  /** Absent: by file I/O. */
  readonly native: NativeMemory | undefined;
  readonly jobs: JobSlots;
}

/** A region of a peer, open here: its bytes, and the check that they are still all there. */
export class PeerObject {
  readonly row: ControlRow;
  /** The bytes of the region. */
  readonly store: ByteStore;
  /** Turn of the route in which the size was checked last. */
  checkedTurn = -1;
  readonly #path: string;
  readonly #close: () => void;
  /** Bytes that the file has now; absent when every access finds out by itself. */
  readonly #size: (() => number) | undefined;

  private constructor(
    row: ControlRow,
    path: string,
    store: ByteStore,
    close: () => void,
    size: (() => number) | undefined,
  ) {
    this.row = row;
    this.store = store;
    this.#path = path;
    this.#close = close;
    this.#size = size;
  }

  /** @throws EngineError `ERR_TE_PEER_LOST` when the object is not the one that the peer offers */
  static open(access: ObjectAccess, row: ControlRow): PeerObject {
    const { directory } = access;
    const code = 'ERR_TE_PEER_LOST';
    if (!isObjectName(row.name)) {
      throw new EngineError(
        code,
        `a peer offers an object of the name ${JSON.stringify(row.name)}`,
      );
    }
    const object = openObject({ directory, name: row.name, writable: row.writable, code });
    try {
      if (object.inode !== row.inode) {
        throw new EngineError(
          code,
          `${object.path} is another object than the one its owner made`,
          {
            details: { path: object.path },
          },
        );
      }
      checkSize(object.path, row, object.size);
      return access.native === undefined
        ? PeerObject.#positional(access.jobs, row, object)
        : PeerObject.#mapped(access.native, row, object);
    } catch (error) {
      closeSync(object.fd);
      throw objectError(code, 'cannot use', object.path, error);
    }
  }

  static #positional(jobs: JobSlots, row: ControlRow, { fd, path }: SharedObject): PeerObject {
    const store = new FileStore({ fd, path, jobs, start: row.offset, length: row.length });
    return new PeerObject(row, path, store, () => store.close(), undefined);
  }

  static #mapped(native: NativeMemory, row: ControlRow, { fd, path }: SharedObject): PeerObject {
    const mapping = Mapping.create(native, fd, row.offset + row.length, { writable: row.writable });
    const close = () => {
      mapping.unmapNow();
      closeSync(fd);
    };
    const store = storeOver(mapping, row.offset, row.length);
    return new PeerObject(row, path, store, close, () => native.fileSize(fd));
  }

  /** Throws when the object has become too short to be touched. */
  check(): void {
    if (this.#size === undefined) return;
    let size: number;
    try {
      size = this.#size();
    } catch (error) {
      if (!(error instanceof NativeCallError)) throw error;
      throw objectError('ERR_TE_PEER_LOST', 'cannot look at', this.#path, error);
    }
    checkSize(this.#path, this.row, size);
  }

  close(): void {
    this.#close();
  }
}

function checkSize(path: string, { offset, length }: ControlRow, size: number): void {
  if (size >= offset + length) return;
  throw new EngineError(
    'ERR_TE_PEER_LOST',
    `${path} has only ${size} of the ${offset + length} bytes that its owner offers: it was cut. ` +
      'The owner has to allocate the memory again',
    { details: { path, size, wanted: offset + length, cut: true } },
  );
}
