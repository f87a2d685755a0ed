import fc from 'fast-check';
import { expect, it } from 'vitest';
import { LINE_MAX, linesOf } from './stdin-lines.ts';

async function collect(chunks: readonly (string | Uint8Array)[]): Promise<(string | undefined)[]> {
  const stream = (async function* () {
    yield* chunks;
  })();
  const lines: (string | undefined)[] = [];
  for await (const line of linesOf(stream)) lines.push(line);
  return lines;
}

it('finds the same lines however the bytes are cut', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: 'binary' }).map((line) => line.replace(/[\r\n]/g, ' '))),
      fc.array(fc.nat(200)),
      async (lines, cuts) => {
        const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
        const borders = [0, ...cuts.filter((at) => at < bytes.length).sort((a, b) => a - b)];
        const chunks = borders.map((at, i) => bytes.subarray(at, borders[i + 1] ?? bytes.length));
        // Lone surrogates become the replacement character on their way through UTF-8.
        expect(await collect(chunks)).toEqual(lines.map((line) => Buffer.from(line).toString()));
      },
    ),
  );
});

it('takes a last line without an end, and CRLF', async () => {
  expect(await collect(['sum\r\nqu', 'it'])).toEqual(['sum', 'quit']);
  expect(await collect([''])).toEqual([]);
});

it('gives undefined for a line that is too long, once, and goes on', async () => {
  const long = 'x'.repeat(LINE_MAX + 1);
  expect(await collect([`${long}\nsum\n`])).toEqual([undefined, 'sum']);
  expect(await collect([long, long, `${long}\nsum\n`])).toEqual([undefined, 'sum']);
  expect(await collect([long, 'end'])).toEqual([undefined]);
});
