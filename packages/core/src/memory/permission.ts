/** Who may touch a region. Names are TENT's. Local access is always both ways. */
export type Permission = 'local-read-write' | 'global-read-only' | 'global-read-write';

export const PERMISSIONS: readonly Permission[] = [
  'local-read-write',
  'global-read-only',
  'global-read-write',
];

/** What a peer wants to do with our memory: its READ reads it, its WRITE writes it. */
export type RemoteAccess = 'read' | 'write';

export function permits(permission: Permission, access: RemoteAccess): boolean {
  if (permission === 'global-read-write') return true;
  return permission === 'global-read-only' && access === 'read';
}
