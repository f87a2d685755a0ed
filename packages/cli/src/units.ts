const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 2 ** 10,
  kib: 2 ** 10,
  kb: 1e3,
  m: 2 ** 20,
  mib: 2 ** 20,
  mb: 1e6,
  g: 2 ** 30,
  gib: 2 ** 30,
  gb: 1e9,
  t: 2 ** 40,
  tib: 2 ** 40,
  tb: 1e12,
};

export const BYTES_ACCEPTED = 'a number of bytes like 4096, 64K, 1MiB (K, M, G, T are binary)';

/**
 * Reads "4096", "64K", "1.5MiB", "10MB". K, M, G and T alone are powers of 1024, as KiB and so on;
 * KB, MB, GB and TB are powers of 1000.
 *
 * @returns undefined when the text is no such number or the bytes are not whole
 */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
  if (match === null) return undefined;
  const unit = UNITS[(match[2] ?? '').toLowerCase()];
  if (unit === undefined) return undefined;
  const bytes = Number(match[1]) * unit;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** "1.50 MiB": for people, in powers of 1024. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = Number.isInteger(value) ? 0 : 2;
  return `${value.toFixed(digits)} ${units[unit] ?? ''}`;
}

/** "812 us", "3.42 ms", "1.20 s". */
export function formatMicroseconds(us: number): string {
  if (us < 1000) return `${us.toFixed(us < 10 ? 1 : 0)} us`;
  if (us < 1e6) return `${(us / 1e3).toFixed(2)} ms`;
  return `${(us / 1e6).toFixed(2)} s`;
}

/** Rounds figures of results: enough digits to compare, few enough to read. */
export function rounded(value: number, digits = 4): number {
  return Number(value.toPrecision(digits));
}
