import { closeSync, fstatSync, read, readSync, write, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { EngineError, type ByteStore } from '@transfer-engine/core/transport';
import { objectError } from '../objects/object-error.ts';
import type { JobSlots } from './job-slots.ts';

/** Up to this size a call in place is faster than a thread, and takes about 10 us. */
const SYNC_BYTES = 64 * 1024;
/** Bytes of one job. */
const JOB_BYTES = 4 * 1024 * 1024;

type Positional = (
  fd: number,
  bytes: Uint8Array,
  offset: number,
  length: number,
  position: number,
) => Promise<{ bytesRead?: number; bytesWritten?: number }>;
const readAt = promisify(read) as Positional;
const writeAt = promisify(write) as Positional;

// One of several forms of each call, so that both have the same type.
const readBytes = (fd: number, bytes: Uint8Array, at: number, length: number, position: number) =>
  readSync(fd, bytes, at, length, position);
const writeBytes = (fd: number, bytes: Uint8Array, at: number, length: number, position: number) =>
  writeSync(fd, bytes, at, length, position);

/**
 * A range of an open file, read and written by position.
 *
 * Nothing is mapped, so nothing that happens to the file can end the process. There is no view.
 */
export class FileStore implements ByteStore {
  readonly length: number;
  readonly path: string;
  readonly #fd: number;
  readonly #start: number;
  readonly #jobs: JobSlots;
  #users = 0;
  #closed = false;

  /** @param init.fd the store's own from now on */
  constructor(init: {
    readonly fd: number;
    readonly path: string;
    readonly start: number;
    readonly length: number;
    readonly jobs: JobSlots;
  }) {
    this.#fd = init.fd;
    this.#start = init.start;
    this.#jobs = init.jobs;
    this.length = init.length;
    this.path = init.path;
  }

  readInto(target: Uint8Array, offset: number): void | Promise<void> {
    return this.#move('read', target, offset);
  }

  writeFrom(source: Uint8Array, offset: number): void | Promise<void> {
    return this.#move('write', source, offset);
  }

  /** Closes the file when the jobs that run have ended. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#users === 0) closeSync(this.#fd);
  }

  #move(direction: 'read' | 'write', bytes: Uint8Array, offset: number): void | Promise<void> {
    if (this.#closed) throw this.#closedError();
    // A write behind the end would make a file longer that somebody has cut.
    if (direction === 'write') this.#checkSize(offset + bytes.byteLength);
    if (bytes.byteLength <= SYNC_BYTES) return this.#moveNow(direction, bytes, offset);
    return this.#moveInJobs(direction, bytes, offset);
  }

  #moveNow(direction: 'read' | 'write', bytes: Uint8Array, offset: number): void {
    const call: typeof writeBytes = direction === 'read' ? readBytes : writeBytes;
    for (let done = 0; done < bytes.byteLength;) {
      const position = this.#start + offset + done;
      let moved: number;
      try {
        moved = call(this.#fd, bytes, done, bytes.byteLength - done, position);
      } catch (error) {
        throw this.#failure(direction, error);
      }
      if (moved === 0) throw this.#truncated(offset + bytes.byteLength);
      done += moved;
    }
  }

  async #moveInJobs(direction: 'read' | 'write', bytes: Uint8Array, offset: number): Promise<void> {
    const jobs: Promise<void>[] = [];
    this.#users += 1;
    for (let at = 0; at < bytes.byteLength; at += JOB_BYTES) {
      const part = bytes.subarray(at, at + JOB_BYTES);
      jobs.push(this.#jobs.run(() => this.#job(direction, part, offset + at)));
    }
    // All have to end: none may touch the bytes after the caller was told.
    const results = await Promise.allSettled(jobs);
    this.#users -= 1;
    if (this.#closed && this.#users === 0) closeSync(this.#fd);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw this.#failure(direction, failed.reason);
  }

  async #job(direction: 'read' | 'write', bytes: Uint8Array, offset: number): Promise<void> {
    const call = direction === 'read' ? readAt : writeAt;
    for (let done = 0; done < bytes.byteLength;) {
      if (direction === 'write') this.#checkSize(offset + bytes.byteLength);
      const position = this.#start + offset + done;
      const result = await call(this.#fd, bytes, done, bytes.byteLength - done, position);
      const moved = result.bytesRead ?? result.bytesWritten ?? 0;
      if (moved === 0) throw this.#truncated(offset + bytes.byteLength);
      done += moved;
    }
  }

  #checkSize(end: number): void {
    if (fstatSync(this.#fd).size < this.#start + end) throw this.#truncated(end);
  }

  #truncated(end: number): EngineError {
    const wanted = this.#start + end;
    return new EngineError(
      'ERR_TE_MEMORY',
      `${this.path} has become shorter than the ${wanted} bytes that it must have; somebody has cut ` +
        'it. Unregister the memory and allocate it again',
      { details: { path: this.path, wanted, cut: true } },
    );
  }

  #failure(direction: string, cause: unknown): EngineError {
    return objectError('ERR_TE_MEMORY', `cannot ${direction}`, this.path, cause);
  }

  #closedError(): EngineError {
    return new EngineError('ERR_TE_CLOSED', `${this.path} was given back; allocate memory again`);
  }
}
