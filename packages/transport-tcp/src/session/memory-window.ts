import type { ByteStore } from '@transfer-engine/core/transport';

/**
 * The bytes [offset, offset + length) of a store, without a copy.
 *
 * Undefined when they are not in the memory of this process, or not any more: the ArrayBuffer
 * below may have been transferred to somebody else, which leaves views of length 0 behind.
 */
export function windowOf(store: ByteStore, offset: number, length: number): Buffer | undefined {
  if (store.view === undefined) return undefined;
  try {
    const view = store.view(offset, length);
    if (view.byteLength !== length) return undefined;
    return Buffer.isBuffer(view)
      ? view
      : Buffer.from(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength);
  } catch {
    // A view cannot even be made of a detached buffer.
    return undefined;
  }
}
