import { setTimeout as sleep } from 'node:timers/promises';
import type { TeProcess } from '../child-process.ts';
import { numberOf } from '../child-process.ts';
import { ReadAsker, WriteAsker } from './bare-ends.ts';
import { SocketServer } from './socket-server.ts';
import { IN_FLIGHT_MAX, type Workload } from './workload.ts';

const ANSWER_MS = 10_000;

/** Ways that bytes go: `write` from this process to the peer process, `read` the other way. */
type Way = 'write' | 'read';

/**
 * Measures what two Node processes can move over bare `node:net` with the same operation, block
 * size and number of operations in flight. Bytes in flight are bounded, because more of them make
 * loopback TCP slower: the ceiling is meant to be one.
 */
export async function measureCeiling(
  peer: TeProcess,
  workload: Workload,
  memory: Buffer,
  settings: { readonly warmUpMs: number; readonly durationMs: number },
): Promise<number> {
  const ways: Way[] = workload.op === 'mix' ? ['write', 'read'] : [workload.op];
  const streams = await Promise.all(
    ways.map((way) => openStream(peer, way, workload, memory, ways.length)),
  );
  try {
    await sleep(settings.warmUpMs);
    const started = performance.now();
    const before = streams.map((stream) => stream.bytes());
    await sleep(settings.durationMs);
    const after = streams.map((stream) => stream.bytes());
    const elapsedMs = performance.now() - started;
    const moved = after.reduce((sum, bytes, index) => sum + bytes - (before[index] ?? 0), 0);
    return moved / elapsedMs / 1e6;
  } finally {
    for (const stream of streams) stream.close();
    await peer.ask('stop', 'stopped', ANSWER_MS);
  }
}

interface Stream {
  /** Payload of the requests that were answered so far. */
  bytes(): number;
  close(): void;
}

async function openStream(
  peer: TeProcess,
  way: Way,
  workload: Workload,
  memory: Buffer,
  ways: number,
): Promise<Stream> {
  const { block, lanes = 1 } = workload;
  const blocks = { memory, blockBytes: block };
  const inFlight = Math.ceil((workload.batch * workload.depth) / ways);
  const bounded = Math.min(inFlight, Math.max(2, Math.floor(IN_FLIGHT_MAX / block)));
  const connections = Math.min(lanes, bounded);
  const window = Math.ceil(bounded / connections);
  if (way === 'write') {
    const askers: WriteAsker[] = [];
    const server = new SocketServer((socket) => {
      askers.push(new WriteAsker(socket, blocks, window));
    });
    const port = await server.listen();
    await peer.ask(`write ${port} ${connections}`, 'ready-to-write', ANSWER_MS);
    return { bytes: () => bytesOf(askers, block), close: () => server.close() };
  }
  const port = numberOf(await peer.ask('read', 'ready-to-read', ANSWER_MS), 'port');
  const askers = Array.from({ length: connections }, () => new ReadAsker(port, blocks, window));
  return {
    bytes: () => bytesOf(askers, block),
    close: () => askers.forEach((one) => one.close()),
  };
}

function bytesOf(askers: readonly { readonly completed: number }[], block: number): number {
  return askers.reduce((sum, one) => sum + one.completed * block, 0);
}
