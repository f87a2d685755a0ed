import { seededRandom } from '../../packages/core/src/base/random.ts';
import type { BatchRequest, Engine, MemoryRegion, Segment } from '../../packages/core/src/index.ts';
import { SimWorld } from '../../packages/core/src/testing/index.ts';

const PEERS = 8;
const REQUESTS = 64;
const MIB = 1024 * 1024;

export interface ScaleOptions {
  readonly engines: number;
  readonly virtualSeconds: number;
}

export interface ScaleReport {
  readonly batches: number;
  readonly requests: number;
  readonly virtualMs: number;
  /** Of everything that happened, and of the content of all memory at the end. */
  readonly trace: string;
}

interface Member {
  readonly name: string;
  readonly engine: Engine;
  readonly region: MemoryRegion;
  segments: readonly Segment[];
  peers: readonly Member[];
}

/**
 * Many engines, each with 8 open peers and one batch of 64 requests of 1 MiB in every virtual
 * second: half of them write what they have, the others read.
 *
 * No byte is moved: all regions are views of one memory, and numbers stand for their content.
 */
export class ScaleWorld {
  readonly #world: SimWorld;
  readonly #options: ScaleOptions;
  readonly #random;
  readonly #members: Member[] = [];
  readonly #memory = new ArrayBuffer(3 * REQUESTS * MIB);
  #batches = 0;
  #failure: string | undefined;

  constructor(seed: number, options: ScaleOptions) {
    this.#options = options;
    this.#random = seededRandom(seed);
    this.#world = new SimWorld(seed, {
      networks: [{ bulk: 'tags', tagBytes: MIB, bytesPerMs: 4_000_000, latencyMs: [0.2, 0.4] }],
      tickMs: 1,
      checked: false,
    });
  }

  async run(): Promise<ScaleReport> {
    await this.#start();
    const { clock } = this.#world;
    const startMs = clock.nowMs();
    const { virtualSeconds } = this.#options;
    for (const member of this.#members) {
      const offsetMs = Math.floor(this.#random.float() * 1000);
      for (let second = 0; second < virtualSeconds; second += 1) {
        clock.scheduleAt(startMs + second * 1000 + offsetMs, () => this.#submit(member));
      }
    }
    await this.#world.run(virtualSeconds * 1000 + 1_000);
    if (this.#failure !== undefined) throw new Error(this.#failure);
    const expected = this.#members.length * virtualSeconds;
    if (this.#batches !== expected) {
      throw new Error(`${this.#batches} batches of ${expected} have ended`);
    }
    const report = {
      batches: this.#batches,
      requests: this.#batches * REQUESTS,
      virtualMs: clock.nowMs() - startMs,
      trace: `${this.#world.traceHash} ${this.#contentHash()}`,
    };
    const closing = Promise.all(this.#members.map(({ engine }) => engine.close()));
    await this.#world.until(closing);
    return report;
  }

  async #start(): Promise<void> {
    const { engines } = this.#options;
    const members = this.#members;
    for (let index = 0; index < engines; index += 1) {
      const name = `e${index}`;
      const engine = await this.#world.engine({ name });
      const region = await engine.registerMemory(new Uint8Array(this.#memory));
      const tags = this.#world.tagsOf(region);
      // The first third is what others write to; the second one is the engine's own; what it reads
      // goes to the last one.
      for (let block = REQUESTS; block < 2 * REQUESTS; block += 1) {
        tags[block] = index * REQUESTS + block;
      }
      members.push({ name, engine, region, segments: [], peers: [] });
    }
    const opening = members.map(async (member, index) => {
      member.peers = Array.from(
        { length: PEERS },
        (_, peer) => members[(index + 1 + peer * 7) % engines] as Member,
      );
      member.segments = await Promise.all(
        member.peers.map(({ name }) => member.engine.openSegment(this.#world.segmentName(name))),
      );
    });
    await this.#world.until(Promise.all(opening));
  }

  #submit(member: Member): void {
    const { engine, region, segments, peers } = member;
    const requests: BatchRequest[] = [];
    const expected: [block: number, tag: number][] = [];
    for (let index = 0; index < REQUESTS; index += 1) {
      const peer = index % PEERS;
      const target = peers[peer] as Member;
      const isWrite = this.#random.float() < 0.5;
      const from = REQUESTS + Math.floor(this.#random.float() * REQUESTS);
      requests.push({
        opcode: isWrite ? 'write' : 'read',
        segment: segments[peer] as Segment,
        local: region,
        localOffset: (isWrite ? from : 2 * REQUESTS + index) * MIB,
        remoteAddress: target.region.address + BigInt((isWrite ? index : from) * MIB),
        length: MIB,
      });
      if (!isWrite)
        expected.push([2 * REQUESTS + index, this.#world.tagsOf(target.region)[from] as number]);
    }
    const batch = engine.createBatch(REQUESTS);
    batch.submit(requests);
    void batch.settled.then(({ completed, error }) => {
      this.#batches += 1;
      if (completed !== REQUESTS) {
        this.#failure ??= `${completed} of ${REQUESTS} requests completed: ${String(error)}`;
      }
      const tags = this.#world.tagsOf(region);
      for (const [block, tag] of expected) {
        if (tags[block] !== tag) this.#failure ??= `${tags[block]} was read, and ${tag} was there`;
      }
      batch.free();
    });
  }

  /** FNV-1a over what every region holds. */
  #contentHash(): string {
    let hash = 0x811c9dc5;
    for (const { region } of this.#members) {
      for (const tag of this.#world.tagsOf(region)) hash = Math.imul(hash ^ tag, 0x01000193);
    }
    return (hash >>> 0).toString(16);
  }
}
