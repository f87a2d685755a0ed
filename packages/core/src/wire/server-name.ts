export interface ServerName {
  /** Host name or address; IPv6 without brackets, with its scope if it has one. */
  readonly host: string;
  readonly port: number;
  /** Whether the text named the port; otherwise `port` is the default. */
  readonly explicitPort: boolean;
  /** What stood where a port belongs but is none: worth a warning, because the default was taken. */
  readonly ignoredPort?: string;
}

const PORT_MAX = 65_535;

/**
 * Takes a server name apart: `host`, `host:port`, `[v6]`, `[v6]:port`, a bare IPv6 address with an
 * optional scope, or `v6%scope:port`. Anything else is split at its last colon.
 *
 * A port must be decimal digits and at most 65535; anything else counts as absent, and is returned
 * in `ignoredPort`. Never fails.
 *
 * Source: Mooncake 3b5a594, include/common.h (parseHostNameWithPort, extractIPv6HostAndPort).
 */
export function parseServerName(text: string, defaultPort: number): ServerName {
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/s.exec(text);
  const inner = bracketed?.[1];
  if (inner !== undefined && isIpv6Literal(inner)) {
    return withPort(inner, bracketed?.[2], defaultPort);
  }
  const colon = isIpv6Literal(text) ? -1 : text.lastIndexOf(':');
  if (colon < 0) return withPort(text, undefined, defaultPort);
  return withPort(text.slice(0, colon), text.slice(colon + 1), defaultPort);
}

function withPort(host: string, portText: string | undefined, defaultPort: number): ServerName {
  if (portText === undefined) return { host, port: defaultPort, explicitPort: false };
  const port = /^[0-9]+$/.test(portText) ? Number(portText) : Number.NaN;
  if (port <= PORT_MAX) return { host, port, explicitPort: true };
  return { host, port: defaultPort, explicitPort: false, ignoredPort: portText };
}

/** `host:port`, with brackets around an IPv6 address. */
export function formatHostPort(host: string, port: number): string {
  return isIpv6Literal(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether the text is an IPv6 address, with or without `%scope`, and without brackets. */
export function isIpv6Literal(text: string): boolean {
  const percent = text.indexOf('%');
  const scope = percent < 0 ? undefined : text.slice(percent + 1);
  if (scope !== undefined && !/^[^\s:%[\]]+$/.test(scope)) return false;
  const address = percent < 0 ? text : text.slice(0, percent);
  if (address.length > 45) return false;
  const halves = address.split('::');
  if (halves.length > 2) return false;
  const [head = '', tail] = halves;
  if (tail === undefined) return countGroups(head, true) === 8;
  const before = head === '' ? 0 : countGroups(head, false);
  const after = tail === '' ? 0 : countGroups(tail, true);
  return before + after <= 7;
}

/** Number of 16-bit groups; NaN when one is malformed. Dotted decimals at the end count as two. */
function countGroups(text: string, mayEndDotted: boolean): number {
  const groups = text.split(':');
  let count = groups.length;
  groups.forEach((group, index) => {
    if (/^[0-9a-fA-F]{1,4}$/.test(group)) return;
    const dotted = mayEndDotted && index === groups.length - 1 && isDottedDecimal(group);
    count = dotted ? count + 1 : Number.NaN;
  });
  return count;
}

function isDottedDecimal(text: string): boolean {
  const parts = text.split('.');
  return (
    parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && +part < 256)
  );
}
