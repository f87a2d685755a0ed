import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  mkdtempSync,
  readdirSync,
  rmSync,
  rmdirSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { createEngine, type Engine } from '@transfer-engine/core';
import { shm, type ShmOptions } from '@transfer-engine/transport-shm';
import { tcp } from '@transfer-engine/transport-tcp';
import { describe, expect, it } from 'vitest';
import { cleanupAfterEach } from '../support/cleanup.ts';
import { EngineProcess } from '../support/engine-process.ts';
import { patternBytes } from '../support/patterns.ts';
import { scratchShm } from '../support/scratch-shm.ts';
import { readRecordings } from '../vectors/recordings.ts';

const MIB = 1024 * 1024;
const isRoot = process.geteuid?.() === 0;
const cleanup = cleanupAfterEach();

interface Recorded {
  readonly length?: number;
  readonly shm_path?: string;
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const memoryObjects = (directory: string) =>
  readdirSync(directory).filter((name) => name.startsWith('mooncake_'));

async function engine(options: ShmOptions, name = '127.0.0.1', withTcp = true): Promise<Engine> {
  const transports = withTcp ? [shm(options), tcp()] : [shm(options)];
  const made = await createEngine({ name, transports, environment: {} });
  cleanup(() => made.close());
  return made;
}

describe('two processes', () => {
  const modes = { mapped: false, 'by file I/O': true } as const;
  for (const [initiatorMode, initiatorSafe] of Object.entries(modes)) {
    for (const [targetMode, targetSafe] of Object.entries(modes)) {
      it(`move bytes both ways, initiator ${initiatorMode}, target ${targetMode}`, async () => {
        const directory = scratchShm(cleanup);
        const length = 33 * MIB + 12_345;
        const target = await EngineProcess.start(cleanup, {
          shmOptions: { directory, safe: targetSafe },
        });
        const initiator = await EngineProcess.start(cleanup, {
          shmOptions: { directory, safe: initiatorSafe },
        });
        const far = await target.call('allocate', { length, seed: 1 });
        const near = await initiator.call('allocate', { length, seed: 2 });
        expect([near.hasView, far.hasView]).toEqual([!initiatorSafe, !targetSafe]);
        const segment = await initiator.call('open', { name: target.name });
        const request = { segment: segment.id, region: near.id, remoteAddress: far.address };
        const sums = [1, 2].map((seed) => sha256(patternBytes(length, seed)));
        expect(await target.call('digest', { region: far.id })).toBe(sums[0]);
        const written = await initiator.call('transfer', { opcode: 'write', request });
        expect(written).toMatchObject({ transport: 'shm', bytes: length, durability: 'applied' });
        expect(await target.call('digest', { region: far.id })).toBe(sums[1]);
        const plain = await initiator.call('register', { length, seed: 3 });
        const read = await initiator.call('transfer', {
          opcode: 'read',
          request: { ...request, region: plain.id },
        });
        expect(read).toMatchObject({ transport: 'shm', bytes: length });
        expect(await initiator.call('digest', { region: plain.id })).toBe(sums[1]);
        await initiator.call('close');
        await target.call('close');
        expect(readdirSync(directory)).toEqual([]);
      });
    }
  }

  it('notify each other after a one-sided write', async () => {
    const directory = scratchShm(cleanup);
    const target = await EngineProcess.start(cleanup, { shmOptions: { directory } });
    const initiator = await EngineProcess.start(cleanup, { shmOptions: { directory } });
    const far = await target.call('allocate', { length: MIB });
    const near = await initiator.call('allocate', { length: MIB, seed: 5 });
    const segment = await initiator.call('open', { name: target.name });
    await initiator.call('transfer', {
      opcode: 'write',
      request: { segment: segment.id, region: near.id, remoteAddress: far.address },
      options: { notify: { name: 'block', message: '17' } },
    });
    expect(await target.call('takeNotifications')).toEqual([
      expect.objectContaining({ name: 'block', message: '17' }),
    ]);
    expect(await target.call('check', { region: far.id, seed: 5 })).toBe(-1);
  });
});

describe('what goes over shared memory, and what does not', () => {
  it('plain memory of a peer goes over TCP, in one batch with shared memory', async () => {
    const directory = scratchShm(cleanup);
    const target = await engine({ directory });
    const initiator = await engine({ directory });
    const shared = await target.allocateMemory(MIB, { transport: 'shm' });
    const plain = await target.registerMemory(Buffer.alloc(MIB));
    const local = await initiator.registerMemory(patternBytes(2 * MIB, 9));
    const segment = await initiator.openSegment(target.segmentName);
    const batch = initiator.createBatch(4000);
    batch.submit(
      Array.from({ length: 4000 }, (_, index) => ({
        opcode: 'write' as const,
        segment,
        local,
        localOffset: index * 256,
        remoteAddress: (index % 2 === 0 ? shared : plain).address + BigInt(index * 256),
        length: 256,
      })),
    );
    const status = await batch.settled;
    expect(status).toMatchObject({ completed: 4000, failed: 0, attempts: 1 });
    for (let index = 0; index < 4000; index += 1) {
      const at = index * 256;
      const { bytes } = index % 2 === 0 ? shared : plain;
      expect(bytes.subarray(at, at + 256).equals(local.bytes.subarray(at, at + 256))).toBe(true);
    }
    const { transports, retries } = initiator.stats();
    expect(transports['shm']).toMatchObject({ bytes: 2000 * 256, failures: 0 });
    expect(retries).toBe(0);
    batch.free();
  });

  it('memory that was allocated after the segment was opened is found', async () => {
    const directory = scratchShm(cleanup);
    const target = await engine({ directory });
    const initiator = await engine({ directory });
    const first = await target.allocateMemory(4096, { transport: 'shm' });
    const segment = await initiator.openSegment(target.segmentName);
    const local = Buffer.alloc(4096, 1);
    await initiator.write({ segment, local, remoteAddress: first.address });
    const second = await target.allocateMemory(4096, { transport: 'shm' });
    const result = await initiator.write({ segment, local, remoteAddress: second.address });
    expect(result.transport).toBe('shm');
    expect(second.bytes.equals(local)).toBe(true);
    await first.unregister();
    await expect(
      initiator.write({ segment, local, remoteAddress: first.address }, { transport: 'shm' }),
    ).rejects.toMatchObject({ code: 'ERR_TE_ADDRESS_REJECTED' });
    expect(memoryObjects(directory)).toHaveLength(1);
  });

  it('views of memory that was given back read zeros, and peers cannot reach them', async () => {
    const directory = scratchShm(cleanup);
    const target = await engine({ directory });
    const region = await target.allocateMemory(2 * MIB, { transport: 'shm' });
    const { bytes } = region;
    bytes.fill(7);
    await region.unregister();
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    bytes.fill(1);
    expect(readdirSync(directory).some((name) => name.startsWith('mooncake_'))).toBe(false);
  });

  it('read-only memory is read and not written', async () => {
    const directory = scratchShm(cleanup);
    const target = await engine({ directory });
    const initiator = await engine({ directory });
    const region = await target.allocateMemory(4096, {
      transport: 'shm',
      permission: 'global-read-only',
    });
    region.bytes.fill(3);
    const segment = await initiator.openSegment(target.segmentName);
    const local = Buffer.alloc(4096, 9);
    const request = { segment, local, remoteAddress: region.address };
    await expect(initiator.write(request)).rejects.toMatchObject({
      code: 'ERR_TE_ADDRESS_REJECTED',
    });
    expect(region.bytes.every((byte) => byte === 3)).toBe(true);
    expect((await initiator.read(request)).transport).toBe('shm');
    expect(local.equals(region.bytes)).toBe(true);
  });

  it('engines that see different directories use TCP; pinned to shm, they are told', async () => {
    const target = await engine({ directory: scratchShm(cleanup) });
    const initiator = await engine({ directory: scratchShm(cleanup) });
    const region = await target.allocateMemory(4 * MIB, { transport: 'shm' });
    const segment = await initiator.openSegment(target.segmentName);
    const local = patternBytes(4 * MIB, 4);
    const request = { segment, local, remoteAddress: region.address };
    expect((await initiator.write(request)).transport).toBe('tcp');
    expect(region.bytes.equals(local)).toBe(true);
    await expect(initiator.write(request, { transport: 'shm' })).rejects.toMatchObject({
      code: 'ERR_TE_CONNECT_FAILED',
      message: expect.stringMatching(/another directory of objects/) as string,
    });
  });

  it("a user's own object is taken, and stays when the engine has gone", async () => {
    const directory = scratchShm(cleanup);
    const path = join(directory, 'users-own');
    writeFileSync(path, Buffer.alloc(10_000, 5), { mode: 0o600 });
    cleanup(() => rmSync(path));
    const target = await engine({ directory });
    const initiator = await engine({ directory });
    const region = await target.allocateMemory(4096, {
      transport: 'shm',
      shmPath: 'users-own',
      shmOffset: 5000,
    });
    const segment = await initiator.openSegment(target.segmentName);
    const local = Buffer.alloc(4096, 6);
    await initiator.write({ segment, local, remoteAddress: region.address });
    const options = { transport: 'shm', shmPath: 'users-own', shmOffset: 5905 };
    await expect(target.allocateMemory(4096, options)).rejects.toMatchObject({
      code: 'ERR_TE_INVALID_ARGUMENT',
    });
    await region.unregister();
    await target.close();
    const mapped = Buffer.alloc(10_000, 5).fill(6, 5000, 9096);
    expect(statSync(path).size).toBe(10_000);
    expect(sha256(execFileSync('cat', [path]))).toBe(sha256(mapped));
  });

  it('objects have names and sizes of the recorded form', async () => {
    const directory = scratchShm(cleanup);
    const target = await engine({ directory });
    const recording = readRecordings('tent/').find(({ name }) => name === 'tent-p2p-shm-write');
    const operation = (recording as unknown as { operation: Recorded[] }).operation;
    const recorded = operation.find(({ shm_path: path }) => path !== undefined);
    expect(recorded?.shm_path).toMatch(/^mooncake_[0-9]+_[a-z]{8}$/);
    await target.allocateMemory(recorded?.length as number, {
      transport: 'shm',
      location: 'cpu:0',
    });
    const [name] = memoryObjects(directory);
    expect(name).toMatch(new RegExp(`^mooncake_${process.pid}_[a-z]{8}$`));
    const { size, mode } = statSync(join(directory, name as string));
    expect(size).toBe(recorded?.length);
    expect(mode & 0o777).toBe(0o600);
  });
});

describe('objects that are not what they were', () => {
  async function pair(safe: boolean) {
    const directory = scratchShm(cleanup);
    const target = await EngineProcess.start(cleanup, { shmOptions: { directory, safe } });
    const far = await target.call('allocate', { length: 8 * MIB, seed: 1 });
    const initiator = await engine({ directory, safe });
    const segment = await initiator.openSegment(target.name);
    const local = patternBytes(8 * MIB, 2);
    const [name] = memoryObjects(directory);
    const path = join(directory, name as string);
    const request = { segment, local, remoteAddress: far.address };
    return { directory, target, far, initiator, request, path };
  }

  it.each([true, false])('a cut object is a typed error (safe: %s)', async (safe) => {
    const { target, initiator, request, path } = await pair(safe);
    await initiator.write({ ...request, length: 4096 });
    truncateSync(path, 4 * MIB);
    for (const opcode of ['write', 'read'] as const) {
      await expect(initiator[opcode](request)).rejects.toMatchObject({
        code: expect.stringMatching(/^ERR_TE_(PEER_LOST|MEMORY)$/) as string,
        details: { path },
      });
    }
    expect(statSync(path).size).toBe(4 * MIB);
    expect(target.running).toBe(true);
  });

  it.each([true, false])('a replaced object is not touched (safe: %s)', async (safe) => {
    const { target, far, initiator, request, path } = await pair(safe);
    rmSync(path);
    writeFileSync(path, Buffer.alloc(8 * MIB, 0xee), { mode: 0o600 });
    cleanup(() => rmSync(path, { force: true }));
    await expect(initiator.write(request, { transport: 'shm' })).rejects.toMatchObject({
      code: 'ERR_TE_PEER_LOST',
      message: expect.stringMatching(/another object/) as string,
    });
    // The memory itself is well, and there is another way to it; TCP needs a view of it, though.
    if (safe) {
      await expect(initiator.write(request)).rejects.toMatchObject({
        code: 'ERR_TE_ADDRESS_REJECTED',
      });
    } else {
      expect((await initiator.write(request)).transport).toBe('tcp');
      expect(await target.call('digest', { region: far.id })).toBe(sha256(request.local));
    }
    expect(sha256(execFileSync('cat', [path], { maxBuffer: 16 * MIB }))).toBe(
      sha256(Buffer.alloc(8 * MIB, 0xee)),
    );
  });

  it.runIf(isRoot)('objects of another user are not touched, even by root', async () => {
    const directory = scratchShm(cleanup, { mode: 0o1777 });
    const target = await EngineProcess.start(cleanup, { shmOptions: { directory }, user: 12_345 });
    const far = await target.call('allocate', { length: MIB });
    const initiator = await engine({ directory });
    const segment = await initiator.openSegment(target.name);
    const local = patternBytes(MIB, 3);
    const request = { segment, local, remoteAddress: far.address };
    await expect(initiator.write(request, { transport: 'shm' })).rejects.toMatchObject({
      code: 'ERR_TE_CONNECT_FAILED',
      message: expect.stringMatching(/belongs to user 12345/) as string,
    });
    expect((await initiator.write(request)).transport).toBe('tcp');
    expect(await target.call('check', { region: far.id, seed: 3 })).toBe(-1);
    await target.call('close');
  });

  it.runIf(isRoot)('an engine of another user cannot reach ours, and uses TCP', async () => {
    const directory = scratchShm(cleanup, { mode: 0o1777 });
    const target = await engine({ directory });
    const region = await target.allocateMemory(MIB, { transport: 'shm' });
    const initiator = await EngineProcess.start(cleanup, {
      shmOptions: { directory },
      user: 12_345,
    });
    const near = await initiator.call('allocate', { length: MIB, seed: 8 });
    const segment = await initiator.call('open', { name: target.segmentName });
    const result = await initiator.call('transfer', {
      opcode: 'write',
      request: { segment: segment.id, region: near.id, remoteAddress: region.address },
    });
    expect(result.transport).toBe('tcp');
    expect(region.bytes.equals(patternBytes(MIB, 8))).toBe(true);
    await initiator.call('close');
  });
});

/** A file system of 8 MiB, if we may mount one. */
function mountSmall(): string | undefined {
  if (!isRoot) return undefined;
  const directory = mkdtempSync('/tmp/te-small-shm-');
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m,mode=0700', 'tmpfs', directory], {
      stdio: 'ignore',
    });
    return directory;
  } catch {
    rmdirSync(directory);
    return undefined;
  }
}

const small = mountSmall();
describe.runIf(small !== undefined)('a full file system (needs the right to mount)', () => {
  it.each([false, true])(
    'is an error of the allocation, and of nothing else (safe: %s)',
    async (safe) => {
      const directory = small as string;
      const target = await engine({ directory, safe });
      const first = await target.allocateMemory(4 * MIB, { transport: 'shm' });
      await expect(target.allocateMemory(4 * MIB, { transport: 'shm' })).rejects.toMatchObject({
        code: 'ERR_TE_MEMORY',
        details: { errno: 'ENOSPC' },
      });
      expect(memoryObjects(directory)).toHaveLength(1);
      await first.write(0, patternBytes(4 * MIB, 6));
      const read = Buffer.alloc(4 * MIB);
      await first.read(0, read);
      expect(read.equals(patternBytes(4 * MIB, 6))).toBe(true);
      await target.close();
      expect(readdirSync(directory)).toEqual([]);
      if (safe) {
        execFileSync('umount', [directory]);
        rmdirSync(directory);
      }
    },
  );
});
