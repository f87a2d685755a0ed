import type { BufferDescriptor, SegmentDescriptor } from '../segment/segment-descriptor.ts';

/** What was seen of an engine that publishes no instance. */
interface Seen {
  readonly rpcPort: number;
  readonly tcpDataPort: number;
  /** Buffers of its earlier lives, which still lead its document. */
  readonly dead: readonly BufferDescriptor[];
  /** All buffers of its document. */
  readonly all: readonly BufferDescriptor[];
}

/** Names that are remembered; the one that was seen longest ago is forgotten first. */
const NAMES_MAX = 16_384;

/**
 * Takes the buffers of dead C++ engines out of the documents of their successors.
 *
 * A C++ engine that was killed leaves its document, and the one that is started under the same name
 * reads it and adds its own buffers behind. Addresses in front belong to no memory any more; its
 * target does not refuse them. They are known here when the document was seen before the restart,
 * which shows by the ports: an engine chooses them when it starts and keeps them. Source: Mooncake
 * 3b5a594, tcp_transport.cpp (allocateLocalSegmentID), observed on a running engine.
 */
export class DeadBuffers {
  readonly #seen = new Map<string, Seen>();

  without(name: string, descriptor: SegmentDescriptor, rpcPort: number): SegmentDescriptor {
    const before = this.#seen.get(name);
    this.#seen.delete(name);
    if (descriptor.extras !== undefined) return descriptor;
    const { tcpDataPort, buffers: all } = descriptor;
    const restarted =
      before !== undefined && (before.rpcPort !== rpcPort || before.tcpDataPort !== tcpDataPort);
    const suspects = (restarted ? before.all : before?.dead) ?? [];
    // A predecessor that ended well removed its document, and nothing is left in front.
    const dead = startsWith(all, suspects) ? suspects : [];
    this.#seen.set(name, { rpcPort, tcpDataPort, dead, all });
    this.#forgetOldest();
    return dead.length === 0 ? descriptor : { ...descriptor, buffers: all.slice(dead.length) };
  }

  #forgetOldest(): void {
    if (this.#seen.size <= NAMES_MAX) return;
    const [oldest] = this.#seen.keys();
    if (oldest !== undefined) this.#seen.delete(oldest);
  }
}

function startsWith(all: readonly BufferDescriptor[], first: readonly BufferDescriptor[]): boolean {
  return first.every(
    ({ address, length }, index) => all[index]?.address === address && all[index].length === length,
  );
}
