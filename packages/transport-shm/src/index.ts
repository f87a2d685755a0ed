import type { TransportFactory } from '@transfer-engine/core/transport';
import { loadNativeMemory } from './ffi/koffi-memory.ts';
import { checkOptions, type ShmOptions } from './shm-options.ts';
import { ShmTransport } from './shm-transport.ts';

export { cleanStaleObjects, type StaleObject } from './control/control-objects.ts';
export type { ShmOptions } from './shm-options.ts';

/**
 * Shared memory as a transport: moves bytes between engines of one host at the speed of memory.
 *
 * Memory has to be allocated with `engine.allocateMemory(bytes, { transport: 'shm' })`; plain
 * memory of peers is left to the transports that follow in the list.
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT` for an option outside its range
 */
export function shm(options: ShmOptions = {}): TransportFactory {
  const settings = checkOptions(options);
  return { name: 'shm', create: (host) => new ShmTransport(host, settings) };
}

/** Whether objects can be mapped here, and if not, why. Without mappings file I/O is used. */
export function mappings(): { readonly available: boolean; readonly reason: string } {
  const { native, reason } = loadNativeMemory();
  return { available: native !== undefined, reason };
}
