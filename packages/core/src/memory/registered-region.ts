import type { ByteStore } from './byte-store.ts';
import type { Permission } from './permission.ts';

/**
 * One registered range of memory, as rooms above see it.
 *
 * A region is pinned while anybody reads or writes it. Removing it stops new pins at once, and is
 * complete when the last pin is gone.
 */
export class RegisteredRegion {
  /** Counts up from 0 for each registry; never reused. */
  readonly id: number;
  readonly store: ByteStore;
  /** First address in the segment; below 2^53. */
  readonly address: number;
  readonly length: number;
  /** "cpu:0", "cuda:1" or "*". */
  readonly location: string;
  readonly permission: Permission;
  /** False as soon as the region is being removed; nothing may be started on it then. */
  live = true;
  /** Own transfers that use the region as their local side and have not ended. */
  ownTransfers = 0;
  #pins = 0;
  #onIdle: (() => void)[] | undefined;

  constructor(init: {
    id: number;
    store: ByteStore;
    address: number;
    location: string;
    permission: Permission;
  }) {
    this.id = init.id;
    this.store = init.store;
    this.address = init.address;
    this.length = init.store.length;
    this.location = init.location;
    this.permission = init.permission;
  }

  get end(): number {
    return this.address + this.length;
  }

  get pins(): number {
    return this.#pins;
  }

  pin(): void {
    this.#pins += 1;
  }

  unpin(): void {
    this.#pins -= 1;
    if (this.#pins === 0 && this.#onIdle !== undefined) {
      const callbacks = this.#onIdle;
      this.#onIdle = undefined;
      for (const callback of callbacks) callback();
    }
  }

  /** Calls back when no pin is left; at once if there is none. */
  whenIdle(callback: () => void): void {
    if (this.#pins === 0) callback();
    else (this.#onIdle ??= []).push(callback);
  }
}
