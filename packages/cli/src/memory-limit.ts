import { constants } from 'node:buffer';
import { totalmem } from 'node:os';

/** Bytes of one piece of memory that can be asked for: what a Buffer holds and the machine has. */
export const MEMORY_BYTES_MAX = Math.min(constants.MAX_LENGTH, totalmem());
