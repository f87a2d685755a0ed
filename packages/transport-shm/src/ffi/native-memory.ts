/**
 * The few system calls that shared memory needs and Node does not have.
 *
 * Everything above asks for this interface only, so that another binding (`node:ffi`) can take the
 * place of the one that is there. Addresses are numbers: user space ends at 2^47.
 */
export interface NativeMemory {
  /** mmap(2) of a whole file, shared. @throws NativeCallError */
  map(fd: number, length: number, options: MapOptions): number;
  /**
   * Puts empty private pages in the place of a mapping: whoever still has a view reads zeros, and
   * nothing is shared any more.
   */
  overlay(address: number, length: number): void;
  /** munmap(2); nobody may have a view any more. */
  unmap(address: number, length: number): void;
  /** The bytes at an address, without a copy. Nothing keeps the mapping alive. */
  view(address: number, length: number): ArrayBuffer;
  /** Makes the pages of a mapping present, outside of the event loop; never fails. */
  populate(address: number, length: number, writable: boolean): Promise<void>;
  /** posix_fallocate(3), outside of the event loop for large files. @throws NativeCallError */
  allocate(fd: number, length: number): Promise<void>;
  /** Bytes of the open file. @throws NativeCallError */
  fileSize(fd: number): number;
}

export interface MapOptions {
  readonly writable: boolean;
  /** Makes the pages present at once; only for short mappings, because it takes time. */
  readonly populate: boolean;
}
