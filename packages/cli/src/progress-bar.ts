import { formatBytes } from './units.ts';

const WIDTH = 30;
const REDRAW_MS = 50;

/** Where a bar is drawn: the part of a terminal stream that it needs. */
export interface BarScreen {
  readonly isTTY: boolean;
  write(text: string): void;
}

/** One line of a progress bar, without line ends. */
export function barLine(label: string, done: number, total: number, elapsedMs: number): string {
  const share = total === 0 ? 1 : Math.min(1, done / total);
  const filled = Math.round(share * WIDTH);
  const percent = String(Math.floor(share * 100)).padStart(3);
  const rate = elapsedMs > 0 ? `${(done / 1e6 / elapsedMs).toFixed(2)} GB/s` : '';
  const bar = '#'.repeat(filled) + '.'.repeat(WIDTH - filled);
  return `${label} [${bar}] ${percent}% ${formatBytes(done)} ${rate}`.trimEnd();
}

/** A bar on a terminal that draws over itself; on anything else one plain line when it ends. */
export class ProgressBar {
  readonly #screen: BarScreen;
  readonly #label: string;
  readonly #total: number;
  readonly #nowMs: () => number;
  readonly #startedMs: number;
  #drawnMs = Number.NEGATIVE_INFINITY;
  #drawn = 0;

  constructor(
    screen: BarScreen,
    label: string,
    total: number,
    nowMs: () => number = () => performance.now(),
  ) {
    this.#screen = screen;
    this.#label = label;
    this.#total = total;
    this.#nowMs = nowMs;
    this.#startedMs = nowMs();
  }

  update(done: number): void {
    const now = this.#nowMs();
    if (!this.#screen.isTTY || now - this.#drawnMs < REDRAW_MS) return;
    this.#drawnMs = now;
    this.#draw(barLine(this.#label, done, this.#total, now - this.#startedMs));
  }

  /** Draws the final state. `elapsedMs` is the time of the work itself, when somebody measured it. */
  finish(done: number, elapsedMs: number = this.#nowMs() - this.#startedMs): void {
    this.#draw(barLine(this.#label, done, this.#total, elapsedMs));
    this.#screen.write('\n');
  }

  /** Ends an unfinished bar so that the next line starts at the left. */
  abandon(): void {
    if (this.#drawn > 0) this.#screen.write('\n');
  }

  #draw(line: string): void {
    this.#screen.write(this.#screen.isTTY ? `\r${line.padEnd(this.#drawn)}` : line);
    this.#drawn = Math.max(this.#drawn, line.length);
  }
}
