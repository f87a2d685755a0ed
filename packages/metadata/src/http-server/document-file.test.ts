import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '@transfer-engine/core/metadata';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DocumentFile, type DocumentRecord } from './document-file.ts';

let folder: string;
let path: string;
const opened: DocumentFile[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'transfer-engine-data-'));
  path = join(folder, 'documents');
});
afterEach(async () => {
  for (const file of opened.splice(0)) await file.close();
  rmSync(folder, { recursive: true });
});

type State = Map<string, string>;

async function openFile(state: State = new Map()): Promise<{ file: DocumentFile; state: State }> {
  const file = await DocumentFile.open(path, {
    logger: silentLogger,
    replay: (record) => apply(state, record),
    snapshot: function* () {
      for (const [key, value] of state) yield { op: 'put', key, value: Buffer.from(value) };
    },
  });
  opened.push(file);
  return { file, state };
}

function apply(state: State, record: DocumentRecord): void {
  if (record.op === 'put') state.set(record.key, record.value.toString());
  else state.delete(record.key);
}

/** Does as the server: the state first, then the file. */
function change(file: DocumentFile, state: State, record: DocumentRecord): Promise<void> {
  apply(state, record);
  return file.append(record);
}

const put = (key: string, value: string): DocumentRecord => ({
  op: 'put',
  key,
  value: Buffer.from(value),
});

/** What another process finds, whatever becomes of this one. */
async function stateAfterCrash(): Promise<State> {
  const copy = join(folder, 'copy');
  writeFileSync(copy, readFileSync(path));
  const state: State = new Map();
  const file = await DocumentFile.open(copy, {
    logger: silentLogger,
    replay: (record) => apply(state, record),
    snapshot: () => [],
  });
  await file.close();
  return state;
}

describe('DocumentFile', () => {
  it('has every acknowledged change, also without a clean end', async () => {
    const { file, state } = await openFile();
    await change(file, state, put('a', '1'));
    await Promise.all(
      Array.from({ length: 100 }, (_, index) =>
        change(file, state, put(`k${index % 7}`, `${index}`)),
      ),
    );
    await change(file, state, { op: 'remove', key: 'k3' });
    await change(file, state, put('line\nbreak ü', 'v\n'));
    expect(await stateAfterCrash()).toEqual(state);
    expect(state.size).toBe(8);
  });

  it('keeps leases and bytes that are no text', async () => {
    const records: DocumentRecord[] = [];
    const lease = { id: 'l', leaseMs: 5 };
    const value = Buffer.from([0xff, 0, 0x80]);
    const open = () =>
      DocumentFile.open(path, {
        logger: silentLogger,
        replay: (record) => records.push(record),
        snapshot: () => records,
      });
    const first = await open();
    await first.append({ op: 'put', key: 'k', value, lease });
    await first.close();
    const second = await open();
    await second.close();
    expect(records).toEqual([{ op: 'put', key: 'k', value, lease }]);
  });

  it.each([1, 5, 20, 40])(
    'sets aside an end that lacks %i bytes, and keeps the rest',
    async (cut) => {
      const { file, state } = await openFile();
      await change(file, state, put('kept', 'value'));
      await change(file, state, put('torn', 'v'.repeat(50)));
      await file.close();
      truncateSync(path, statSync(path).size - cut);
      const again = await openFile();
      expect([...again.state]).toEqual([['kept', 'value']]);
      expect(readdirSync(folder).filter((name) => name.includes('.damaged-'))).toHaveLength(1);
      await change(again.file, again.state, put('next', 'x'));
      expect([...(await stateAfterCrash()).keys()]).toEqual(['kept', 'next']);
    },
  );

  it('does not believe what follows damaged bytes', async () => {
    const { file, state } = await openFile();
    await change(file, state, put('kept', 'value'));
    await file.close();
    const text = readFileSync(path, 'utf8');
    appendFileSync(path, '00000000 {"op":"remove","key":"kept"}\n' + text.split('\n')[1] + '\n');
    const again = await openFile();
    expect([...again.state]).toEqual([['kept', 'value']]);
  });

  it('is rewritten when most of it is out of date', async () => {
    const { file, state } = await openFile();
    const large = 'x'.repeat(100_000);
    for (let round = 0; round < 60; round += 1) await change(file, state, put('k', large + round));
    expect(statSync(path).size).toBeLessThan(3_000_000);
    expect(await stateAfterCrash()).toEqual(state);
    expect(existsSync(`${path}.new`)).toBe(false);
  });

  it('is for one process at a time', async () => {
    const { file } = await openFile();
    await expect(openFile()).rejects.toThrow(`is used by process ${process.pid}`);
    await file.close();
    const { pid } = spawnSync(process.execPath, ['-e', '']);
    writeFileSync(`${path}.lock`, String(pid));
    await (await openFile()).file.close();
    writeFileSync(`${path}.lock`, '1');
    await expect(openFile()).rejects.toMatchObject({ code: 'ERR_TE_METADATA' });
  });

  it('refuses files that it did not write, and leaves them alone', async () => {
    writeFileSync(path, 'my diary\n');
    await expect(openFile()).rejects.toThrow(/no file of a metadata server/);
    expect(readFileSync(path, 'utf8')).toBe('my diary\n');
    rmSync(path);
    mkdirSync(path);
    await expect(openFile()).rejects.toMatchObject({ code: 'ERR_TE_METADATA' });
  });

  it('loses nothing when it cannot be rewritten', async () => {
    const { file, state } = await openFile();
    // A folder in the place of the new file makes that fail.
    mkdirSync(`${path}.new`);
    await change(file, state, put('large', 'x'.repeat(3_000_000)));
    await change(file, state, put('large', 'small'));
    await change(file, state, put('b', '2'));
    expect(statSync(path).size).toBeGreaterThan(3_000_000);
    expect(await stateAfterCrash()).toEqual(state);
    rmSync(`${path}.new`, { recursive: true });
    for (let round = 0; round < 4; round += 1)
      await change(file, state, put('large', 'y'.repeat(3_000_000)));
    expect(await stateAfterCrash()).toEqual(state);
    expect(statSync(path).size).toBeLessThan(10_000_000);
  });
});
