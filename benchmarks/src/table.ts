/** The line that `te bench --json` ends with, and the depth it was asked for. */
export interface BenchResult {
  readonly op: string;
  readonly block: number;
  readonly batch: number;
  readonly depth: number;
  readonly transport: string;
  readonly gbps: number;
  readonly ops_per_s: number;
  readonly p50_us: number;
  readonly p99_us: number;
  readonly cpu_s_per_gb: { readonly initiator: number; readonly target: number };
  readonly loop_delay_p99_ms: number;
  readonly ceiling: { readonly name: string; readonly gbps: number };
  readonly ratio: number;
}

/** A row a workload; `ratio` is ours to the ceiling of the same run. */
export function markdownTable(results: readonly BenchResult[]): string {
  const head = [
    ...['op', 'block', 'batch x depth', 'GB/s', 'k op/s', 'p50 us'],
    ...['CPU s/GB (initiator / target)', 'node:net GB/s', 'ratio'],
  ];
  const rows = results.map((result) => [
    result.op,
    bytes(result.block),
    `${result.batch} x ${result.depth}`,
    result.gbps.toFixed(2),
    (result.ops_per_s / 1000).toFixed(1),
    result.p50_us.toFixed(0),
    `${result.cpu_s_per_gb.initiator.toFixed(2)} / ${result.cpu_s_per_gb.target.toFixed(2)}`,
    result.ceiling.gbps.toFixed(2),
    result.ratio.toFixed(2),
  ]);
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
}

function bytes(count: number): string {
  if (count >= 2 ** 20) return `${count / 2 ** 20} MiB`;
  return count >= 1024 ? `${count / 1024} KiB` : `${count} B`;
}
