import { createRequire } from 'node:module';
import type * as Koffi from 'koffi';
import { NativeCallError } from './native-call-error.ts';
import type { MapOptions, NativeMemory } from './native-memory.ts';

// Source: Linux, include/uapi/asm-generic/mman-common.h and mman.h; the same on x86-64 and arm64.
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MAP_POPULATE = 0x8000;
const MADV_POPULATE_READ = 22;
const MADV_POPULATE_WRITE = 23;
const SEEK_END = 2;
/** Filling this much takes well below a millisecond. */
const ALLOCATE_SYNC_BYTES = 1024 * 1024;

type Func = Koffi.KoffiFunc<(...args: (number | bigint | unknown[])[]) => number>;

/** System calls through koffi, which has prebuilt binaries and is an optional dependency. */
class KoffiMemory implements NativeMemory {
  readonly #koffi: typeof Koffi;
  readonly #mmap: Func;
  readonly #munmap: Func;
  readonly #madvise: Func;
  readonly #fallocate: Func;
  readonly #lseek: Func;

  constructor(koffi: typeof Koffi) {
    this.#koffi = koffi;
    const process = koffi.load(null);
    const call = (name: string, result: string, args: string[]) =>
      process.func(name, result, args) as Func;
    this.#mmap = call('mmap', 'int64', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'int64']);
    this.#munmap = call('munmap', 'int', ['uintptr_t', 'size_t']);
    this.#madvise = call('madvise', 'int', ['uintptr_t', 'size_t', 'int']);
    this.#fallocate = call('posix_fallocate', 'int', ['int', 'int64', 'int64']);
    this.#lseek = call('lseek', 'int64', ['int', 'int64', 'int']);
  }

  map(fd: number, length: number, { writable, populate }: MapOptions): number {
    const protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    const flags = populate ? MAP_SHARED | MAP_POPULATE : MAP_SHARED;
    const address = this.#mmap(0, length, protection, flags, fd, 0);
    if (address === -1) throw this.#failure('mmap');
    return address;
  }

  overlay(address: number, length: number): void {
    const flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    const placed = this.#mmap(address, length, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (placed === -1) throw this.#failure('mmap');
  }

  unmap(address: number, length: number): void {
    if (this.#munmap(address, length) !== 0) throw this.#failure('munmap');
  }

  view(address: number, length: number): ArrayBuffer {
    return this.#koffi.view(BigInt(address), length);
  }

  populate(address: number, length: number, writable: boolean): Promise<void> {
    const advice = writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
    return new Promise((resolve) => {
      // Kernels before 5.14 refuse the advice; pages come one by one then.
      this.#madvise.async(address, length, advice, () => resolve());
    });
  }

  async allocate(fd: number, length: number): Promise<void> {
    let errno: number;
    if (length <= ALLOCATE_SYNC_BYTES) {
      errno = this.#fallocate(fd, 0, length);
    } else {
      errno = await new Promise<number>((resolve, reject) => {
        this.#fallocate.async(fd, 0, length, (error: Error | null, result: number) => {
          if (error === null) resolve(result);
          else reject(error);
        });
      });
    }
    if (errno !== 0) throw new NativeCallError('posix_fallocate', errno);
  }

  fileSize(fd: number): number {
    const size = this.#lseek(fd, 0, SEEK_END);
    if (size === -1) throw this.#failure('lseek');
    return size;
  }

  #failure(syscall: string): NativeCallError {
    return new NativeCallError(syscall, this.#koffi.errno());
  }
}

let loaded: { readonly native: NativeMemory | undefined; readonly reason: string } | undefined;

/**
 * The system calls, or why they are not there: koffi is not installed, or has no binary for this
 * platform. Loaded once, when somebody asks for the first time.
 */
export function loadNativeMemory(): {
  readonly native: NativeMemory | undefined;
  readonly reason: string;
} {
  loaded ??= load();
  return loaded;
}

function load(): { native: NativeMemory | undefined; reason: string } {
  if (process.platform !== 'linux') {
    return { native: undefined, reason: `no mappings on ${process.platform}` };
  }
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
    return { native: new KoffiMemory(koffi), reason: '' };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { native: undefined, reason: `koffi cannot be loaded: ${reason}` };
  }
}
