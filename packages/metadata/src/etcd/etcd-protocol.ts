/** Keys of one page of a listing. */
export const LIST_PAGE = 1_000;

/** The range of keys that start with a prefix. Source: etcd's API reference, RangeRequest. */
export function prefixEnd(prefix: string): [start: Buffer, end: Buffer] {
  if (prefix === '') return [Buffer.of(0), Buffer.of(0)];
  const start = Buffer.from(prefix);
  const end = Buffer.from(start);
  // UTF-8 has no byte 0xff, so the last byte can always be counted up.
  end[end.length - 1] = (end[end.length - 1] ?? 0) + 1;
  return [start, end];
}

/** What to do about an error of etcd. */
export function etcdAdvice(error: unknown): string {
  const reason = error instanceof Error ? error.message : String(error);
  if (/too large|larger than/.test(reason)) {
    return (
      'the document is too large for this server; start etcd with a larger --max-request-bytes ' +
      '(its default is 1.5 MiB)'
    );
  }
  if (/permission denied|authentication|user name is empty|invalid auth/i.test(reason)) {
    return 'give the user name and the password of an etcd user that may use these keys';
  }
  return 'check that etcd runs at this address and has a leader';
}
