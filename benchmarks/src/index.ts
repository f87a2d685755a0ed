import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { arch, cpus, release, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { FULL, QUICK, type BenchCase } from './cases.ts';
import { markdownTable, type BenchResult } from './table.ts';

/*
 * Runs `te bench` over a list of workloads. Every figure is measured beside a bare node:net
 * program in the same run, because figures of different runs cannot be compared.
 */

const root = fileURLToPath(new URL('../../', import.meta.url));
const te = `${root}packages/cli/bin/te.js`;
const README = `${root}README.md`;
const MARKS = ['<!-- bench:begin -->', '<!-- bench:end -->'] as const;

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    duration: { type: 'string' },
    /** Writes the table into the README. */
    readme: { type: 'boolean', default: false },
  },
});

const cases = values.quick ? QUICK : FULL;
const seconds = values.duration ?? (values.quick ? '1' : '3');
const results: BenchResult[] = [];
for (const [index, item] of cases.entries()) {
  process.stderr.write(`${index + 1}/${cases.length} ${item.op} ${item.block} x ${item.batch}\n`);
  results.push(await measure(item, seconds));
}

const machine = `${cpus().length} x ${cpus()[0]?.model.trim() ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()} ${arch()}, Node ${process.versions.node}`;
const report = {
  date: new Date().toISOString().slice(0, 10),
  machine,
  seconds: Number(seconds),
  results,
};
mkdirSync(`${root}.cache/bench`, { recursive: true });
writeFileSync(`${root}.cache/bench/latest.json`, `${JSON.stringify(report, null, 2)}\n`);
const table = markdownTable(results);
process.stdout.write(`${report.date}, ${machine}\n\n${table}\n`);
if (values.readme)
  writeReadme(`Measured on ${report.date} on ${machine}, over the loopback interface.\n\n${table}`);

function measure({ op, block, batch, depth }: BenchCase, duration: string): Promise<BenchResult> {
  const options = { op, block, batch, depth, duration };
  const flags = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  const child = spawn(process.execPath, [te, 'bench', '--loopback', '--json', ...flags], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      const last = output.trim().split('\n').at(-1) ?? '';
      if (code !== 0) return reject(new Error(`te bench ended with ${code}: ${last}`));
      resolve({ ...(JSON.parse(last) as Omit<BenchResult, 'depth'>), depth });
    });
  });
}

function writeReadme(text: string): void {
  const readme = readFileSync(README, 'utf8');
  const begin = readme.indexOf(MARKS[0]);
  const end = readme.indexOf(MARKS[1]);
  if (begin < 0 || end < begin) throw new Error(`README.md has no ${MARKS.join(' … ')}`);
  const changed = `${readme.slice(0, begin + MARKS[0].length)}\n\n${text}\n\n${readme.slice(end)}`;
  writeFileSync(README, changed);
}
