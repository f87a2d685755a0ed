import { describe, expect, it } from 'vitest';
import type { SegmentDescriptor } from '../segment/segment-descriptor.ts';
import { DeadBuffers } from './dead-buffers.ts';

function segment(tcpDataPort: number, addresses: number[], instance?: string): SegmentDescriptor {
  return {
    name: 's',
    protocols: ['tcp'],
    tcpDataPort,
    tcpProtoVersion: 2,
    buffers: addresses.map((address) => ({
      name: 's',
      address: BigInt(address),
      length: 10,
      remoteKeys: [],
      localKeys: [],
    })),
    devices: [],
    priorityMatrix: {},
    ...(instance === undefined
      ? {}
      : { extras: { version: 1, instance, host: 'h', capabilities: [] } }),
  };
}

/** Shows a sequence of documents; returns the addresses that are left of the last one. */
function after(...documents: [rpcPort: number, tcpDataPort: number, addresses: number[]][]) {
  const dead = new DeadBuffers();
  let left: number[] = [];
  for (const [rpcPort, port, addresses] of documents) {
    const { buffers } = dead.without('s', segment(port, addresses), rpcPort);
    left = buffers.map(({ address }) => Number(address));
  }
  return left;
}

describe('DeadBuffers', () => {
  it('leaves a living engine its buffers, old and new', () => {
    expect(after([1, 2, [10, 20]])).toEqual([10, 20]);
    expect(after([1, 2, [10, 20]], [1, 2, [10, 20, 30]], [1, 2, [20]])).toEqual([20]);
  });

  it('takes out what leads the document after a restart, then and later', () => {
    const first = [1, 2, [10, 20]] as [number, number, number[]];
    expect(after(first, [3, 4, [10, 20]])).toEqual([]);
    expect(after(first, [3, 4, [10, 20, 30]])).toEqual([30]);
    expect(after(first, [3, 4, [10, 20]], [3, 4, [10, 20, 30, 40]])).toEqual([30, 40]);
    expect(after(first, [3, 2, [10, 20, 30]], [5, 2, [10, 20, 30, 40]])).toEqual([40]);
  });

  it('believes a document that starts anew', () => {
    expect(after([1, 2, [10, 20]], [3, 4, [30]])).toEqual([30]);
    expect(after([1, 2, [10, 20]], [3, 4, [10, 30]])).toEqual([10, 30]);
  });

  it('believes engines that say which start of theirs it is', () => {
    const dead = new DeadBuffers();
    dead.without('s', segment(2, [10], 'a'), 1);
    const now = segment(4, [10], 'b');
    expect(dead.without('s', now, 3)).toBe(now);
  });
});
