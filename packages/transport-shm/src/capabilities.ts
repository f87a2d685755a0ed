import type { ControlPlace } from './control/peer-control.ts';
import { isControlName } from './objects/object-names.ts';

/** Says that a segment can be reached by shared memory, in the way of this version. */
export const SHM_CAPABILITY = 'shm.1';
const PLACE_PREFIX = 'shm.at:';

/** Where the control object is, as a capability: it travels in the document of the segment. */
export function formatPlace({ name, token }: ControlPlace): string {
  return `${PLACE_PREFIX}${name}:${token}`;
}

/** @returns undefined when the capabilities name no control object */
export function parsePlace(capabilities: readonly string[]): ControlPlace | undefined {
  const text = capabilities.find((capability) => capability.startsWith(PLACE_PREFIX));
  if (text === undefined) return undefined;
  const [name = '', token = ''] = text.slice(PLACE_PREFIX.length).split(':');
  return isControlName(name) && /^[0-9a-f]{32}$/.test(token) ? { name, token } : undefined;
}
