import { expect, it } from 'vitest';
import { barLine, ProgressBar } from './progress-bar.ts';

function screenOf(isTTY: boolean) {
  const written: string[] = [];
  return { written, isTTY, write: (text: string) => void written.push(text) };
}

it('shows share, amount and rate', () => {
  expect(barLine('WRITE', 0, 2 ** 20, 0)).toBe(`WRITE [${'.'.repeat(30)}]   0% 0 B`);
  expect(barLine('WRITE', 2 ** 19, 2 ** 20, 1)).toBe(
    `WRITE [${'#'.repeat(15)}${'.'.repeat(15)}]  50% 512 KiB 0.52 GB/s`,
  );
  expect(barLine('WRITE', 2 ** 20, 2 ** 20, 1)).toContain('100% 1 MiB');
});

it('draws over itself on a terminal, not more often than needed', () => {
  let now = 0;
  const screen = screenOf(true);
  const bar = new ProgressBar(screen, 'x', 100, () => now);
  bar.update(1);
  bar.update(2);
  now = 100;
  bar.update(50);
  bar.finish(100);
  expect(screen.written).toHaveLength(4);
  expect(screen.written.slice(0, 3).every((text) => text.startsWith('\r'))).toBe(true);
  expect(screen.written[3]).toBe('\n');
});

it('writes one plain line elsewhere', () => {
  const screen = screenOf(false);
  const bar = new ProgressBar(screen, 'x', 100, () => 0);
  bar.update(50);
  bar.abandon();
  bar.finish(100, 1);
  expect(screen.written.join('')).toMatch(/^x \[#{30}\] 100% 100 B 0\.00 GB\/s\n$/);
});

it('ends a line that is half drawn', () => {
  const screen = screenOf(true);
  const bar = new ProgressBar(screen, 'x', 100, () => 0);
  bar.update(50);
  bar.abandon();
  expect(screen.written.at(-1)).toBe('\n');
});
