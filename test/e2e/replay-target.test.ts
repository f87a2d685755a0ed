import { createEngine, type Engine, type MemoryRegion } from '@transfer-engine/core';
import { tcp } from '@transfer-engine/transport-tcp';
import { describe, expect, it } from 'vitest';
import { cleanupAfterEach } from '../support/cleanup.ts';
import { fillPattern, patternBytes, TARGET_SEED } from '../support/patterns.ts';
import { playOpener } from '../support/scripted-opener.ts';
import {
  bytesOf,
  connectionsTo,
  loadVector,
  operationOf,
  vectorNames,
  type RecordedConnection,
  type Vector,
} from '../support/vectors.ts';
import {
  controlFrameSize,
  HEADER_BYTES,
  isWrite,
  parseControlFrame,
  parseDataHeader,
  readable,
  rewriteDocumentFrame,
  timestampOf,
  withAddress,
} from '../support/wire-bytes.ts';

const METADATA = 1;
/** Byte-wise delivery of a hundred thousand bytes would show nothing that a few do not show. */
const SMALL_BYTES = 4096;

const cleanup = cleanupAfterEach();

/** Recorded P2P, and those recorded with a store: what passes between engines is the same. */
const names = vectorNames(/^(p2p-.*|http-write-notify|etcd-write-notify)$/);

describe('recorded initiators against our target', () => {
  it('covers every recorded exchange over TCP', () => {
    expect(names).toHaveLength(14);
  });

  it.each(names)('%s', async (name) => {
    await replay(loadVector(name));
  });

  it.each(names)('%s, one byte at a time', async (name) => {
    await replay(loadVector(name), 1);
  });
});

async function replay(vector: Vector, pieceBytes?: number): Promise<void> {
  const engine = await createEngine({ transports: [tcp()], strict: true, environment: {} });
  cleanup(() => engine.close());
  const regions = await engine
    .registerMemoryBatch(
      vector.target_buffers.map(({ length }) => patternBytes(length, TARGET_SEED)),
    )
    .then((all) => [...all]);
  const expected = regions.map((region) => Buffer.from(region.bytes));
  for (const connection of connectionsTo(vector, 'target-data')) {
    applyWrite(connection, vector, expected);
  }
  for (const connection of vector.connections) {
    const large = bytesOf(connection, 'opener').length > SMALL_BYTES;
    const pieces = pieceBytes === undefined ? {} : { pieceBytes: large ? 1000 : pieceBytes };
    if (connection.listener === 'target-rpc')
      await playControl(engine, regions, connection, pieces);
    if (connection.listener === 'target-data') {
      await playData(engine, regions, connection, vector, pieces);
    }
  }
  regions.forEach((region, index) =>
    expect(region.bytes.equals(expected[index] as Buffer), `buffer ${index}`).toBe(true),
  );
  expect(engine.takeNotifications()).toEqual(recordedNotifications(vector));
}

/** Frames of the control port hold addresses only in the answer: the opener's go as they are. */
async function playControl(
  engine: Engine,
  regions: readonly MemoryRegion[],
  connection: RecordedConnection,
  pieces: { pieceBytes?: number },
): Promise<void> {
  let answers = 0;
  await playOpener(connection, {
    ...pieces,
    port: engine.address.rpcPort,
    outgoing: (recorded) => recorded,
    answerSize: controlFrameSize,
    check: (answer, recorded) => {
      answers += 1;
      const wanted =
        parseControlFrame(recorded).type === METADATA
          ? rewriteDocumentFrame(recorded, {
              name: engine.segmentName,
              addresses: regions.map(({ address }) => address),
              tcpDataPort: engine.localSegment.tcpDataPort,
              timestamp: timestampOf(parseControlFrame(answer).text),
            })
          : recorded;
      expect(readable(answer)).toBe(readable(wanted));
    },
  });
  expect(answers).toBe(1);
}

async function playData(
  engine: Engine,
  regions: readonly MemoryRegion[],
  connection: RecordedConnection,
  vector: Vector,
  pieces: { pieceBytes?: number },
): Promise<void> {
  const [region] = regions;
  const base = BigInt(vector.target_buffers[0]?.addr ?? 0);
  let first = true;
  let answered = 0;
  await playOpener(connection, {
    ...pieces,
    port: engine.localSegment.tcpDataPort,
    outgoing: (recorded) => {
      if (!first) return recorded;
      first = false;
      const { address } = parseDataHeader(recorded);
      return withAddress(recorded, (region as MemoryRegion).address + address - base);
    },
    check: (answer, recorded) => {
      answered += answer.length;
      expect(readable(answer)).toBe(readable(recorded));
    },
  });
  expect(answered).toBe(bytesOf(connection, 'listener').length);
}

/** What the recorded target's memory held afterwards: a refused WRITE left it as it was. */
function applyWrite(connection: RecordedConnection, vector: Vector, memory: Buffer[]): void {
  const sent = bytesOf(connection, 'opener');
  const { address, length, opcode } = parseDataHeader(sent);
  const offset = Number(address - BigInt(vector.target_buffers[0]?.addr ?? 0));
  const [bytes] = memory;
  if (!isWrite(opcode) || bytes === undefined) return;
  if (offset + Number(length) > bytes.length) return;
  sent.copy(bytes, offset, HEADER_BYTES, HEADER_BYTES + Number(length));
}

function recordedNotifications(vector: Vector): { name: string; message: string }[] {
  const { op, notify_name: name, notify_msg: message } = operationOf(vector);
  if (!op.includes('notify')) return [];
  return [{ name: name ?? 'peer', message: message ?? 'hello from c++' }];
}

describe('what the recordings are made of', () => {
  it('targets were filled with a pattern that READ payloads show', () => {
    for (const name of ['p2p-read', 'p2p-read-v1']) {
      const vector = loadVector(name);
      const { offset = 0, length = 0 } = operationOf(vector);
      const [data] = connectionsTo(vector, 'target-data');
      const payload = bytesOf(data as RecordedConnection, 'listener').subarray(-length);
      const filled = Buffer.alloc(length);
      fillPattern(filled, TARGET_SEED, offset);
      expect(payload.toString('hex')).toBe(filled.toString('hex'));
    }
  });
});
