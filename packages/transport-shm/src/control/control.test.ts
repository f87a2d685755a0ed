import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { loadNativeMemory } from '../ffi/koffi-memory.ts';
import { newMemoryName } from '../objects/object-names.ts';
import { isAlive, ownIdentity, type ProcessIdentity } from '../objects/process-identity.ts';
import { scratchDirectory } from '../testing/scratch-directory.ts';
import {
  HAZARDS,
  NAMESPACE_AT,
  PID_AT,
  RowState,
  START_TIME_AT,
  VERSION_AT,
  decodeRow,
  encodeRow,
  type ControlRow,
} from './control-layout.ts';
import { cleanStaleObjects, isTouched } from './control-objects.ts';
import { OwnControl } from './own-control.ts';
import { PeerControl } from './peer-control.ts';

const scratch = scratchDirectory();
const directory = scratch.path;
afterAll(() => scratch.remove());

const identity = ownIdentity() as ProcessIdentity;
const controls: OwnControl[] = [];
afterEach(() => {
  for (const control of controls.splice(0)) control.close();
});

const modes = [
  ['mapped', loadNativeMemory().native],
  ['by file I/O', undefined],
] as const;

async function create(native: (typeof modes)[number][1] = undefined): Promise<OwnControl> {
  const control = await OwnControl.create(directory, identity, native);
  controls.push(control);
  return control;
}

const row = (init: Partial<ControlRow> = {}): ControlRow => ({
  state: RowState.offered,
  writable: true,
  unlink: false,
  address: 2 ** 44,
  length: 4096,
  offset: 0,
  inode: 17,
  name: 'mooncake_1_abcdefgh',
  ...init,
});

const peerOf = (
  control: OwnControl,
  native: (typeof modes)[number][1] = undefined,
  own = identity,
) =>
  PeerControl.open({
    peer: 'peer',
    directory,
    place: { name: control.name, token: control.token },
    own,
    native,
  });

describe('rows', () => {
  it('are read as they were written', () => {
    for (const written of [
      row(),
      row({ writable: false, unlink: true, name: 'ü'.repeat(36), offset: 2 ** 40 }),
      row({ state: RowState.owned, address: 0, length: 0, inode: 0 }),
    ]) {
      expect(decodeRow(encodeRow(written), 0)).toEqual(written);
    }
  });

  it('are skipped when they cannot be', () => {
    expect(decodeRow(Buffer.alloc(128), 0)).toBeUndefined();
    expect(decodeRow(Buffer.alloc(128, 0xff), 0)).toBeUndefined();
    const nonsense = encodeRow(row());
    nonsense.writeDoubleLE(Number.NaN, 8);
    expect(decodeRow(nonsense, 0)).toBeUndefined();
    nonsense.writeDoubleLE(-1, 8);
    expect(decodeRow(nonsense, 0)).toBeUndefined();
  });
});

describe.each(modes)('a control object written %s', (_own, ownNative) => {
  describe.each(modes)('and read %s', (_peer, peerNative) => {
    it('tells what is offered now, and that it changed', async () => {
      const control = await create(ownNative);
      const peer = peerOf(control, peerNative);
      expect(peer.refresh()).toBe(true);
      expect(peer.table.rows).toEqual([]);
      expect(peer.changed).toBe(false);
      const second = control.claim(row({ address: 2 ** 44 + 8192 }));
      const first = control.claim(row());
      control.claim(row({ state: RowState.owned, address: 1 }));
      expect(peer.changed).toBe(true);
      expect(peer.table.rows).toEqual([]);
      expect(peer.latest().rows).toHaveLength(2);
      expect(peer.changed).toBe(true);
      expect(peer.refresh()).toBe(true);
      expect(peer.changed).toBe(false);
      expect(peer.table.rows.map(({ address }) => address - 2 ** 44)).toEqual([0, 8192]);
      expect(peer.table.find(2 ** 44 + 4095, 1)).toEqual(row());
      expect(peer.table.find(2 ** 44 + 4095, 2)).toBeUndefined();
      expect(peer.table.find(2 ** 44 - 1, 1)).toBeUndefined();
      expect(peer.table.find(Number.NaN, 1)).toBeUndefined();
      control.free(first);
      control.free(second);
      expect(control.claim(row({ address: 2 ** 45 }))).toBe(second);
      peer.refresh();
      expect(peer.table.rows.map(({ address }) => address)).toEqual([2 ** 45]);
      peer.close();
      expect(peer.trouble(0)?.code).toBe('ERR_TE_PEER_LOST');
    });

    it('tells that its engine was closed', async () => {
      const control = await create(ownNative);
      const peer = peerOf(control, peerNative);
      expect(peer.trouble(0)).toBeUndefined();
      control.close();
      expect(peer.trouble(0)?.message).toMatch(/has closed its engine/);
      peer.close();
      expect(readdirSync(directory)).toEqual([]);
    });
  });

  it('names whose memory is touched, in a turn and for longer', async () => {
    const control = await create(ownNative);
    const touched = (tag: number) => isTouched(directory, tag, identity);
    control.enter(5);
    expect([touched(5), touched(6)]).toEqual([true, false]);
    const slot = control.hold(6);
    control.leave();
    expect([touched(5), touched(6)]).toEqual([false, true]);
    const slots = Array.from({ length: HAZARDS }, () => control.hold(7));
    // Two more than there is room for: everybody has to wait.
    expect(touched(12345)).toBe(true);
    control.enter(5);
    control.leave();
    expect(touched(12345)).toBe(true);
    for (const held of slots) control.letGo(held);
    expect([touched(12345), touched(7), touched(6)]).toEqual([false, false, true]);
    control.letGo(slot);
    expect(touched(6)).toBe(false);
  });
});

/** Changes a control object behind the back of its owner. */
function forge(control: OwnControl, change: (bytes: Buffer) => void): void {
  const bytes = readFileSync(control.path);
  change(bytes);
  writeFileSync(control.path, bytes);
}

describe('a peer is refused', () => {
  it('when its object is another one than its document says', async () => {
    const control = await create();
    const place = { name: control.name, token: '0'.repeat(32) };
    const open = () =>
      PeerControl.open({ peer: 'p', directory, place, own: identity, native: undefined });
    expect(open).toThrow(/ERR_TE_CONNECT_FAILED.*another token/);
    const other = await create();
    renameSync(other.path, control.path);
    expect(() => peerOf(control)).toThrow(/another token/);
  });

  it('when nothing is there: it sees another directory', async () => {
    const control = await create();
    control.close();
    expect(() => peerOf(control)).toThrow(/ERR_TE_CONNECT_FAILED.*is not there/);
  });

  it('when its processes are counted in another namespace', async () => {
    const control = await create();
    const own = { ...identity, namespace: identity.namespace + 1 };
    expect(() => peerOf(control, undefined, own)).toThrow(/another pid namespace/);
  });

  it('when the object is too short, or something else', async () => {
    const control = await create();
    forge(control, (bytes) => bytes.fill(0, 0, 8));
    expect(() => peerOf(control)).toThrow(/is no control object/);
    writeFileSync(control.path, 'short');
    expect(() => peerOf(control)).toThrow(/5 bytes instead of/);
  });
});

it('a change that never ends is noticed, and what was known stays', async () => {
  const control = await create();
  control.claim(row());
  const peer = peerOf(control);
  peer.refresh();
  forge(control, (bytes) => bytes.writeUInt32LE(bytes.readUInt32LE(VERSION_AT) + 1, VERSION_AT));
  expect(peer.changed).toBe(true);
  expect(peer.refresh()).toBe(false);
  expect(peer.table.rows).toHaveLength(1);
  expect(peer.changed).toBe(true);
  peer.close();
});

describe('processes', () => {
  it('are told apart by the time of their start', () => {
    expect(isAlive(identity)).toBe(true);
    expect(isAlive({ ...identity, startTime: identity.startTime - 1 })).toBe(false);
    expect(isAlive({ ...identity, pid: 2 ** 22 + 1 })).toBe(false);
  });
});

describe('what a dead engine has left', () => {
  /** A process that has ended. */
  async function ended(): Promise<number> {
    const child = spawn(process.execPath, ['-e', ''], { stdio: 'ignore' });
    await once(child, 'exit');
    return child.pid as number;
  }

  it('is removed: its objects and what it had not recorded yet, and nothing else', async () => {
    const pid = await ended();
    const control = await create();
    const living = await create();
    const put = (name: string, text: string) =>
      writeFileSync(join(directory, name), text, { mode: 0o600 });
    const mine = newMemoryName(pid);
    const unrecorded = newMemoryName(pid);
    const others = [newMemoryName(process.pid), 'users-own', newMemoryName(pid)];
    put(mine, 'mine');
    put(unrecorded, '');
    for (const name of others) put(name, 'x');
    control.claim(row({ state: RowState.owned, unlink: true, name: mine, inode: 0 }));
    control.claim(row({ state: RowState.owned, unlink: false, name: 'users-own', inode: 0 }));
    // A name that was taken again by somebody else since then.
    control.claim(
      row({ state: RowState.owned, unlink: true, name: others[2] as string, inode: 1 }),
    );
    control.claim(row({ state: RowState.owned, unlink: true, name: '../outside', inode: 0 }));
    expect(cleanStaleObjects({ directory })).toEqual([]);
    forge(control, (bytes) => bytes.writeUInt32LE(pid, PID_AT));
    const expected = [mine, unrecorded, control.name].map((name) => join(directory, name)).sort();
    const paths = (dryRun: boolean) =>
      cleanStaleObjects({ directory, dryRun })
        .map(({ path }) => path)
        .sort();
    expect(paths(true)).toEqual(expected);
    expect(readdirSync(directory)).toContain(mine);
    expect(paths(false)).toEqual(expected);
    expect(readdirSync(directory).sort()).toEqual([...others, living.name].sort());
    expect(paths(false)).toEqual([]);
    for (const name of others) renameSync(join(directory, name), join(directory, control.name));
  });

  it('is found by the start of the process, too: numbers are given again', async () => {
    const control = await create();
    forge(control, (bytes) => bytes.writeDoubleLE(identity.startTime - 1, START_TIME_AT));
    expect(cleanStaleObjects({ directory })).toEqual([{ path: control.path, pid: process.pid }]);
  });

  it('is not judged from another pid namespace', async () => {
    const control = await create();
    forge(control, (bytes) => {
      bytes.writeDoubleLE(identity.startTime - 1, START_TIME_AT);
      bytes.writeDoubleLE(identity.namespace + 1, NAMESPACE_AT);
    });
    expect(cleanStaleObjects({ directory })).toEqual([]);
  });
});

it('a process that has ended is noticed at once', async () => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  const started = `/proc/${child.pid as number}/stat`;
  const text = readFileSync(started, 'latin1');
  const startTime = Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[19]);
  const control = await create();
  forge(control, (bytes) => {
    bytes.writeUInt32LE(child.pid as number, PID_AT);
    bytes.writeDoubleLE(startTime, START_TIME_AT);
  });
  const peer = peerOf(control);
  expect(peer.trouble(1000)).toBeUndefined();
  expect(peer.trouble(1002)).toBeUndefined();
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(peer.trouble(1002)?.message).toContain(`process ${child.pid as number}`);
  expect(peer.trouble(1200)?.code).toBe('ERR_TE_PEER_LOST');
  peer.close();
});
