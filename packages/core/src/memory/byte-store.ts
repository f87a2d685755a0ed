/**
 * A fixed number of bytes that transports read and write by offset.
 *
 * What stands behind it may be a Buffer, a SharedArrayBuffer, a mapped object or a file. Offsets
 * and lengths are in bytes and must lie inside; the caller has checked them.
 */
export interface ByteStore {
  readonly length: number;
  /**
   * A window on the bytes themselves, without a copy. Absent when the bytes are not in the memory
   * of this process. The window is valid until the region is unregistered.
   */
  view?(offset: number, length: number): Uint8Array;
  /** Copies bytes of the store into `target`. */
  readInto(target: Uint8Array, offset: number): void | Promise<void>;
  /** Copies `source` into the store. */
  writeFrom(source: Uint8Array, offset: number): void | Promise<void>;
}
