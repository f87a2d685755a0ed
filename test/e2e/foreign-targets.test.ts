import { createEngine, TaskState, type Engine, type Segment } from '@transfer-engine/core';
import { tcp, type TcpOptions } from '@transfer-engine/transport-tcp';
import { describe, expect, it } from 'vitest';
import { cleanupAfterEach } from '../support/cleanup.ts';
import { CppLikeTarget, type CppLikeOptions } from '../support/cpp-like-target.ts';
import { mismatch, patternBytes } from '../support/patterns.ts';

const BLOCK = 20_000;

const cleanup = cleanupAfterEach();

interface Setting {
  readonly target: CppLikeTarget;
  readonly engine: Engine;
  readonly segment: Segment;
}

async function setUp(options: CppLikeOptions, tcpOptions: TcpOptions = {}): Promise<Setting> {
  const target = new CppLikeTarget(options);
  await target.listen();
  cleanup(() => target.close());
  const engine = await createEngine({ environment: {}, transports: [tcp(tcpOptions)] });
  cleanup(() => engine.close());
  return { target, engine, segment: await engine.openSegment(target.name) };
}

describe('a target that closes the connection after a refusal', () => {
  it.each(['write', 'read'] as const)(
    '%s: what was queued behind is sent again',
    async (opcode) => {
      const count = 300;
      const { target, engine, segment } = await setUp({ length: count * BLOCK });
      const filled = patternBytes(count * BLOCK, 4);
      if (opcode === 'read') filled.copy(target.memory);
      const region = await engine.registerMemory(
        opcode === 'write' ? Buffer.from(filled) : Buffer.alloc(count * BLOCK),
      );
      const refused = new Set([0, 7, 8, 150, 299]);
      const batch = engine.createBatch(count);
      batch.submit(
        Array.from({ length: count }, (_, index) => ({
          opcode,
          segment,
          local: region,
          localOffset: index * BLOCK,
          length: BLOCK,
          remoteAddress:
            target.address + BigInt((refused.has(index) ? count + index : index) * BLOCK),
        })),
      );
      const status = await batch.settled;
      expect(status).toMatchObject({ completed: count - refused.size, failed: refused.size });
      const destination = opcode === 'write' ? target.memory : region.bytes;
      for (let index = 0; index < count; index += 1) {
        const { state, error } = batch.status(index);
        if (!refused.has(index)) {
          const block = destination.subarray(index * BLOCK, (index + 1) * BLOCK);
          expect({ index, state, wrong: mismatch(block, 4, index * BLOCK) }).toEqual({
            index,
            state: TaskState.completed,
            wrong: -1,
          });
        } else {
          // The reset may overtake the status; then all that is known is that the peer hung up.
          expect(error?.code).toMatch(/^ERR_TE_(ADDRESS_REJECTED|PEER_LOST)$/);
        }
      }
      expect(target.refused).toBeGreaterThanOrEqual(refused.size);
    },
  );
});

describe('targets from before v2', () => {
  it.each([{ oneShot: true }, { oneShot: false }])(
    'a connection for each request (closed by the server: $oneShot)',
    async ({ oneShot }) => {
      const count = 40;
      const { target, engine, segment } = await setUp({
        length: count * BLOCK,
        protoVersion: 1,
        oneShot,
      });
      expect(segment.tcpProtoVersion).toBe(1);
      const region = await engine.registerMemory(patternBytes(count * BLOCK, 6));
      for (const opcode of ['write', 'read'] as const) {
        const batch = engine.createBatch(count);
        batch.submit(
          Array.from({ length: count }, (_, index) => ({
            opcode,
            segment,
            local: region,
            localOffset: index * BLOCK,
            length: BLOCK,
            remoteAddress: target.address + BigInt(index * BLOCK),
          })),
        );
        expect(await batch.settled).toMatchObject({
          completed: count,
          durability: opcode === 'write' ? 'sent' : 'applied',
        });
        expect(mismatch(opcode === 'write' ? target.memory : region.bytes, 6)).toBe(-1);
        region.bytes.fill(0);
      }
      expect(target.connections).toBe(2 * count);
    },
  );
});

describe('targets that break the protocol', () => {
  const status = (code: number, magic = 0x4d435456) => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE(code);
    bytes.writeUInt32LE(magic, 4);
    return bytes;
  };

  it.each<[string, NonNullable<CppLikeOptions['misbehave']>, string]>([
    ['a status without the magic', (_, socket) => socket.end(status(0, 0)), 'PROTOCOL'],
    [
      'payload in the place of a status',
      (_, socket) => socket.write(Buffer.alloc(BLOCK, 0xab)),
      'PROTOCOL',
    ],
    ['an HTTP answer', (_, socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'), 'PROTOCOL'],
    ['an unknown status', (_, socket) => socket.end(status(7)), '(PROTOCOL|ADDRESS_REJECTED)'],
    ['half a status', (_, socket) => socket.end(status(0).subarray(0, 5)), 'PEER_LOST'],
    ['the end', (_, socket) => socket.end(), 'PEER_LOST'],
    ['a reset', (_, socket) => socket.resetAndDestroy(), 'PEER_LOST'],
    ['silence', () => undefined, 'TIMEOUT'],
    [
      'half a status, and silence',
      (_, socket) => socket.write(status(0).subarray(0, 5)),
      'TIMEOUT',
    ],
  ])('%s', async (_name, misbehave, code) => {
    const bounds = { statusTimeoutMs: 300, stallTimeoutMs: 300 };
    const { target, engine, segment } = await setUp({ length: BLOCK, misbehave }, bounds);
    const region = await engine.registerMemory(patternBytes(BLOCK, 6));
    const request = { segment, local: region, remoteAddress: target.address };
    const both = await Promise.allSettled([engine.write(request), engine.read(request)]);
    for (const outcome of both) {
      expect(outcome).toMatchObject({
        status: 'rejected',
        reason: { code: expect.stringMatching(new RegExp(`^ERR_TE_${code}$`)) as unknown },
      });
    }
    // Nothing is in use any more, and another peer is served.
    await region.unregister();
    expect(engine.stats()).toMatchObject({ tasksActive: 0, slicesInFlight: 0 });
    const good = await setUp({ length: BLOCK });
    const other = await engine.openSegment(good.target.name);
    const data = patternBytes(BLOCK, 9);
    await engine.write({ segment: other, local: data, remoteAddress: good.target.address });
    expect(mismatch(good.target.memory, 9)).toBe(-1);
  });

  it('a payload that ends too soon is not taken for the whole', async () => {
    const { target, engine, segment } = await setUp({
      length: BLOCK,
      misbehave: (_, socket) => socket.end(Buffer.concat([status(0), Buffer.alloc(BLOCK - 1)])),
    });
    const request = { segment, local: Buffer.alloc(BLOCK), remoteAddress: target.address };
    await expect(engine.read(request)).rejects.toMatchObject({ code: 'ERR_TE_PEER_LOST' });
  });
});
