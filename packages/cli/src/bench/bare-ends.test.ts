import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { fillPattern } from '../patterns.ts';
import { ReadAsker, serveReads, WriteAsker, WriteServer } from './bare-ends.ts';
import { SocketServer } from './socket-server.ts';

/** Small blocks share reads, large ones are read into their place. */
const CASES = [
  { blockBytes: 100, count: 64, window: 7 },
  { blockBytes: 4096, count: 32, window: 32 },
  { blockBytes: 300_000, count: 6, window: 3 },
];

async function memories(blockBytes: number, count: number) {
  const source = Buffer.alloc(blockBytes * count);
  await fillPattern(source, 11);
  // Not a multiple of the pattern's period from block to block: a swapped block would show.
  for (let block = 0; block < count; block += 1) source.writeUInt32LE(block, block * blockBytes);
  return { source, copy: Buffer.alloc(source.length) };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await nextTurn();
}

it.each(CASES)('WRITE puts every block in its place: $blockBytes bytes', async (given) => {
  const { blockBytes, count, window } = given;
  const { source, copy } = await memories(blockBytes, count);
  let asker: WriteAsker | undefined;
  const server = new SocketServer((socket) => {
    asker = new WriteAsker(socket, { memory: source, blockBytes }, window);
  });
  const other = new WriteServer(await server.listen(), { memory: copy, blockBytes });
  await until(() => (asker?.completed ?? 0) > count);
  other.close();
  server.close();
  expect(copy.equals(source)).toBe(true);
});

it.each(CASES)('READ brings every block to its place: $blockBytes bytes', async (given) => {
  const { blockBytes, count, window } = given;
  const { source, copy } = await memories(blockBytes, count);
  const server = new SocketServer((socket) => serveReads(socket, { memory: source, blockBytes }));
  const asker = new ReadAsker(await server.listen(), { memory: copy, blockBytes }, window);
  await until(() => asker.completed > count);
  asker.close();
  server.close();
  expect(copy.equals(source)).toBe(true);
});
