import { mappings } from '@transfer-engine/transport-shm';
import { TRANSPORTS } from '../engine-setup.ts';
import { bytes, integer, list, text } from '../options.ts';
import { MEMORY_BYTES_MAX } from '../memory-limit.ts';

/** Options that the demo and its two processes share; the demo hands them on. */
export const DEMO_OPTIONS = {
  file: text('PATH', {
    help: 'file to share (default: the running Node executable)',
    fallback: process.execPath,
  }),
  block: bytes({
    min: 64,
    max: MEMORY_BYTES_MAX,
    fallback: 256 * 1024,
    help: 'size of a block of the KV cache',
  }),
  layers: integer({ min: 1, max: 4096, fallback: 16, help: 'layers, one registered buffer each' }),
  batch: integer({ min: 1, max: 65_536, fallback: 32, help: 'blocks of a batch' }),
  depth: integer({ min: 1, max: 256, fallback: 4, help: 'batches in flight' }),
  seed: integer({ min: 0, max: 0x7fffffff, fallback: 1, help: 'seed of the block tables' }),
  transports: list(TRANSPORTS, {
    help: 'each is measured',
    // The demo looks at its memory, which takes a mapping.
    fallback: mappings().available ? ['shm', 'tcp'] : ['tcp'],
  }),
} as const;
