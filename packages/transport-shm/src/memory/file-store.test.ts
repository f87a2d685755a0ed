import { ftruncateSync, openSync, readFileSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { scratchDirectory } from '../testing/scratch-directory.ts';
import { FileStore } from './file-store.ts';
import { JobSlots } from './job-slots.ts';

const scratch = scratchDirectory();
afterAll(() => scratch.remove());

let files = 0;
function open(length: number, start = 0): FileStore {
  files += 1;
  const path = join(scratch.path, `file-${files}`);
  const fd = openSync(path, 'w+', 0o600);
  ftruncateSync(fd, start + length);
  return new FileStore({ fd, path, start, length, jobs: new JobSlots(2) });
}

const pattern = (length: number) => Buffer.from(Array.from({ length }, (_, i) => (i * 31) & 0xff));

describe('FileStore', () => {
  it.each([1, 4096, 65_536, 65_537, 9_000_001])('moves %i bytes both ways', async (length) => {
    const store = open(length + 30, 100);
    const source = pattern(length);
    const writing = store.writeFrom(source, 17);
    // Small pieces are moved at once, long ones beside the event loop.
    expect(writing === undefined).toBe(length <= 65_536);
    await writing;
    const target = Buffer.alloc(length);
    await store.readInto(target, 17);
    expect(target.equals(source)).toBe(true);
    expect(
      readFileSync(store.path)
        .subarray(117, 117 + length)
        .equals(source),
    ).toBe(true);
    expect(store).not.toHaveProperty('view');
    store.close();
  });

  it.each([1000, 5_000_000])(
    'says that a file of %i bytes was cut, and never mends it',
    async (length) => {
      const store = open(length);
      truncateSync(store.path, 10);
      const bytes = Buffer.alloc(length);
      const cut = { code: 'ERR_TE_MEMORY', details: { path: store.path } };
      await expect((async () => store.readInto(bytes, 0))()).rejects.toMatchObject(cut);
      await expect((async () => store.writeFrom(bytes, 0))()).rejects.toMatchObject(cut);
      expect(statSync(store.path).size).toBe(10);
      store.close();
    },
  );

  it('closes its file when the jobs have ended, and then refuses', async () => {
    const store = open(6_000_000);
    const source = pattern(6_000_000);
    const writing = store.writeFrom(source, 0);
    store.close();
    store.close();
    await writing;
    expect(readFileSync(store.path).equals(source)).toBe(true);
    expect(() => store.readInto(source, 0)).toThrow(/ERR_TE_CLOSED/);
  });
});

describe('JobSlots', () => {
  it('lets as many run as it has slots, also after failures', async () => {
    const slots = new JobSlots(2);
    let running = 0;
    let most = 0;
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, index) =>
        slots.run(async () => {
          running += 1;
          most = Math.max(most, running);
          await Promise.resolve();
          running -= 1;
          if (index % 3 === 0) throw new Error('planted');
          return index;
        }),
      ),
    );
    expect(most).toBe(2);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(13);
  });
});
