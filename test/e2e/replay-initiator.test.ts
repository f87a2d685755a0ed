import { createEngine, type Engine, type MemoryRegion, type Segment } from '@transfer-engine/core';
import { tcp } from '@transfer-engine/transport-tcp';
import { describe, expect, it } from 'vitest';
import { cleanupAfterEach } from '../support/cleanup.ts';
import { patternBytes, mismatch, TARGET_SEED, WRITE_SEED } from '../support/patterns.ts';
import { ScriptedControlPort, ScriptedDataPort } from '../support/scripted-listener.ts';
import {
  bytesOf,
  connectionsTo,
  loadVector,
  operationOf,
  vectorNames,
  type RecordedConnection,
  type RecordedOperation,
  type Vector,
} from '../support/vectors.ts';
import { until } from '../support/waiting.ts';
import {
  factsOf,
  HEADER_BYTES,
  parseControlFrame,
  readable,
  rewriteDocumentFrame,
  timestampOf,
  withoutPadding,
} from '../support/wire-bytes.ts';

const METADATA = 1;
const PATIENCE_MS = 10_000;

const cleanup = cleanupAfterEach();
const names = vectorNames(/^p2p-/);

describe('our initiator against recorded targets', () => {
  it('covers every exchange recorded in P2P mode', () => {
    expect(names).toHaveLength(12);
  });

  it.each(names)('%s', async (name) => {
    const vector = loadVector(name);
    const target = await startTarget(vector);
    const { engine, region } = await startInitiator(vector);
    const segment = await engine.openSegment(target.name);
    expect(segment.buffers.map(({ address, length }) => ({ address, length }))).toEqual(
      vector.target_buffers.map(({ addr, length }) => ({ address: BigInt(addr), length })),
    );
    await perform(operationOf(vector), vector, engine, segment, region);
    await compareControl(vector, target.control, engine, region);
    await compareData(vector, target.data);
    await segment.close();
    // One connection for every exchange, each closed by us: else the next one was never served.
    expect([...target.control.failures, ...target.data.failures]).toEqual([]);
  });
});

interface Target {
  readonly control: ScriptedControlPort;
  readonly data: ScriptedDataPort;
  readonly name: string;
}

/** The recorded target: its document with other ports, its addresses, statuses and payloads. */
async function startTarget(vector: Vector): Promise<Target> {
  const answers = new Map(
    connectionsTo(vector, 'target-data').map((connection) => {
      const header = bytesOf(connection, 'opener').subarray(0, HEADER_BYTES);
      const refused = connection.messages.find(({ event }) => event !== undefined);
      const answer = {
        bytes: bytesOf(connection, 'listener'),
        ends: refused?.from === 'listener',
      };
      return [withoutPadding(header).toString('hex'), answer] as const;
    }),
  );
  const data = new ScriptedDataPort((header) => {
    const answer = answers.get(withoutPadding(header).toString('hex'));
    if (answer === undefined) throw new Error(`not recorded: ${header.toString('hex')}`);
    return answer;
  });
  await data.listen();
  cleanup(() => data.close());
  const recorded = connectionsTo(vector, 'target-rpc');
  let exchange = 0;
  const control: ScriptedControlPort = new ScriptedControlPort((request) => {
    const reply = bytesOf(recorded[exchange] as RecordedConnection, 'listener');
    exchange += 1;
    if (parseControlFrame(reply).type !== METADATA) return reply;
    expect(request[8]).toBe(METADATA);
    const { text } = parseControlFrame(reply);
    return rewriteDocumentFrame(reply, {
      ...factsOf(text),
      name: `127.0.0.1:${control.port}`,
      tcpDataPort: data.port,
    });
  });
  await control.listen();
  cleanup(() => control.close());
  return { control, data, name: `127.0.0.1:${control.port}` };
}

async function startInitiator(vector: Vector): Promise<{ engine: Engine; region: MemoryRegion }> {
  const [open] = connectionsTo(vector, 'target-rpc');
  const { text } = parseControlFrame(bytesOf(open as RecordedConnection, 'opener'));
  const [buffer] = (JSON.parse(text) as { buffers: { length: number }[] }).buffers;
  const engine = await createEngine({
    transports: [tcp()],
    strict: true,
    environment: vector.name.endsWith('-v1') ? { MC_TCP_PROTO: '1' } : {},
  });
  cleanup(() => engine.close());
  const region = await engine.registerMemory(Buffer.alloc(buffer?.length ?? 0));
  return { engine, region };
}

async function perform(
  operation: RecordedOperation,
  vector: Vector,
  engine: Engine,
  segment: Segment,
  region: MemoryRegion,
): Promise<void> {
  const { op, offset = 0, length = 0, batch = 1 } = operation;
  const base = BigInt(vector.target_buffers[0]?.addr ?? 0) + BigInt(offset);
  const v1 = vector.name.endsWith('-v1');
  const notification = {
    name: operation.notify_name ?? '',
    message: operation.notify_msg ?? '',
  };
  const request = { segment, local: region, remoteAddress: base, length };
  const data = patternBytes(batch * length, WRITE_SEED, offset);
  if (op !== 'read') data.copy(region.bytes);
  if (vector.name.endsWith('-rejected')) {
    const moving = op === 'read' ? engine.read(request) : engine.write(request);
    await expect(moving).rejects.toMatchObject({ code: 'ERR_TE_ADDRESS_REJECTED' });
    return;
  }
  switch (op) {
    case 'info':
      return;
    case 'probe':
      expect(await engine.probe(segment)).toBe(true);
      return;
    case 'notify':
      return engine.notify(segment, notification);
    case 'read':
      expect(await engine.read(request)).toMatchObject({ bytes: length, durability: 'applied' });
      expect(mismatch(region.bytes.subarray(0, length), TARGET_SEED, offset)).toBe(-1);
      return;
    case 'writenotify':
      await engine.write(request, { notify: notification });
      return;
    case 'write': {
      const handle = engine.createBatch(batch);
      handle.submit(
        Array.from({ length: batch }, (_, index) => ({
          ...request,
          opcode: 'write' as const,
          localOffset: index * length,
          remoteAddress: base + BigInt(index * length),
        })),
      );
      expect(await handle.settled).toMatchObject({
        completed: batch,
        bytes: batch * length,
        durability: v1 ? 'sent' : 'applied',
      });
      return;
    }
    default:
      throw new Error(`no such operation: ${op}`);
  }
}

/** Byte for byte what the recorded opener sent, in the same order. */
async function compareControl(
  vector: Vector,
  control: ScriptedControlPort,
  engine: Engine,
  region: MemoryRegion,
): Promise<void> {
  const recorded = connectionsTo(vector, 'target-rpc').map((connection) =>
    bytesOf(connection, 'opener'),
  );
  await until(() => control.requests.length >= recorded.length, PATIENCE_MS, 'all exchanges');
  const wanted = recorded.map((frame, index) => {
    if (parseControlFrame(frame).type !== METADATA) return frame;
    const sent = parseControlFrame(control.requests[index] as Buffer);
    return rewriteDocumentFrame(frame, {
      name: engine.segmentName,
      addresses: [region.address],
      tcpDataPort: engine.localSegment.tcpDataPort,
      timestamp: timestampOf(sent.text),
    });
  });
  expect(control.requests.map(readable)).toEqual(wanted.map(readable));
}

/**
 * The requests of a batch are independent of each other and C++ opens a connection for each; ours
 * may share one. So whole requests are compared, in the order of their addresses.
 */
async function compareData(vector: Vector, data: ScriptedDataPort): Promise<void> {
  const recorded = connectionsTo(vector, 'target-data').map((connection) =>
    bytesOf(connection, 'opener'),
  );
  await until(() => data.requests.length >= recorded.length, PATIENCE_MS, 'all requests');
  const comparable = (requests: readonly Buffer[]) =>
    requests.map((request) => withoutPadding(request).toString('hex')).sort();
  expect(comparable(data.requests)).toEqual(comparable(recorded));
}
