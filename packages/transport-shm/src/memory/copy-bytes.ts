import { BufferStore, type ByteStore } from '@transfer-engine/core/transport';

/**
 * Copies bytes from one store to another. Returns a promise only when a store needs one.
 *
 * Between two stores in memory nothing is allocated but a view.
 */
export function copyBytes(
  from: ByteStore,
  fromOffset: number,
  to: ByteStore,
  toOffset: number,
  length: number,
): void | Promise<void> {
  if (from instanceof BufferStore && to instanceof BufferStore) {
    from.bytes.copy(to.bytes, toOffset, fromOffset, fromOffset + length);
    return undefined;
  }
  if (from.view !== undefined) return to.writeFrom(from.view(fromOffset, length), toOffset);
  if (to.view !== undefined) return from.readInto(to.view(toOffset, length), fromOffset);
  const between = Buffer.allocUnsafe(length);
  const reading = from.readInto(between, fromOffset);
  if (reading === undefined) return to.writeFrom(between, toOffset);
  return reading.then(() => to.writeFrom(between, toOffset));
}
