import { isAbsolute } from 'node:path';
import { invalidArgument } from '@transfer-engine/core/transport';

export interface ShmOptions {
  /**
   * Never maps what others could cut: all bytes of peers and of allocated memory move by positional
   * file I/O. Nothing that happens to an object can end the process then; it costs half of the
   * speed, and allocated memory has no view. Default false.
   */
  readonly safe?: boolean;
  /** Where objects are. Default /dev/shm; for tests, and for mounts of another kind. */
  readonly directory?: string;
  /** Slices that wait on one route at most; more is back-pressure. Default 4,096. */
  readonly queueSlices?: number;
}

export interface ShmSettings {
  readonly safe: boolean;
  readonly directory: string;
  readonly queueSlices: number;
}

const QUEUE_SLICES = 4096;
const QUEUE_SLICES_MAX = 1024 * 1024;

/** @throws EngineError `ERR_TE_INVALID_ARGUMENT` for an option outside its range */
export function checkOptions(options: ShmOptions): ShmSettings {
  const { safe = false, directory = '/dev/shm', queueSlices = QUEUE_SLICES } = options;
  if (typeof safe !== 'boolean') throw invalidArgument('safe', safe, 'true or false');
  if (typeof directory !== 'string' || !isAbsolute(directory)) {
    throw invalidArgument('directory', directory, 'an absolute path');
  }
  if (!Number.isInteger(queueSlices) || queueSlices < 1 || queueSlices > QUEUE_SLICES_MAX) {
    throw invalidArgument('queueSlices', queueSlices, `an integer from 1 to ${QUEUE_SLICES_MAX}`);
  }
  return { safe, directory, queueSlices };
}
