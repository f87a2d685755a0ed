import { EngineError, MemoryDirectory, MemoryStore } from '@transfer-engine/core/metadata';
import { FakeClock } from '@transfer-engine/core/testing';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../packages/core/src/base/random.ts';
import { DocumentKeeper } from '../../packages/core/src/metadata/document-keeper.ts';

const ENGINES = 1_000;
const STEP_MS = 50;

/** A server for many engines that can go away, and comes back empty; it counts its requests. */
class SimulatedServer {
  readonly clock = new FakeClock();
  readonly directory = new MemoryDirectory(this.clock);
  up = true;
  requests = 0;
  refused = 0;

  store(seed: number): MemoryStore {
    const times = { clock: this.clock, random: seededRandom(seed) };
    return new MemoryStore(this.directory, times, () => this.serve());
  }

  serve(): void {
    if (this.up) this.requests += 1;
    else this.refused += 1;
    if (!this.up) throw new EngineError('ERR_TE_METADATA', 'connection refused');
  }

  restartEmpty(): void {
    this.directory.clear();
    this.up = true;
  }

  /** Lets time pass; returns the requests of every step. */
  async run(ms: number): Promise<number[]> {
    const counts: number[] = [];
    for (let passed = 0; passed < ms; passed += STEP_MS) {
      const before = this.requests + this.refused;
      this.clock.advance(STEP_MS);
      // Calls end in later turns.
      for (let turn = 0; turn < 4; turn += 1) await new Promise((done) => setImmediate(done));
      counts.push(this.requests + this.refused - before);
    }
    return counts;
  }
}

async function startEngines(server: SimulatedServer): Promise<DocumentKeeper[]> {
  const keepers = Array.from({ length: ENGINES }, (_, index) => {
    const { clock } = server;
    const random = seededRandom(ENGINES + index);
    return new DocumentKeeper({ store: server.store(index), timeoutMs: 5_000, clock, random });
  });
  await Promise.all(
    keepers.flatMap((keeper, index) => [
      keeper.put(`rpc_meta/${index}`, 'place', {}),
      keeper.put(`ram/${index}`, 'document', {}),
    ]),
  );
  return keepers;
}

describe('a store that a thousand engines share', () => {
  it('is refreshed evenly although all of them started together', async () => {
    const server = new SimulatedServer();
    await startEngines(server);
    await server.run(20_000);
    const counts = await server.run(10_000);
    expect(Math.max(...counts)).toBeLessThan(ENGINES / 8);
    expect(server.directory.documents.size).toBe(2 * ENGINES);
  });

  it.each([1_000, 15_000, 60_000])(
    'comes back empty after %i ms: the documents return in 5 s, and nobody rushes in',
    async (outageMs) => {
      const server = new SimulatedServer();
      await startEngines(server);
      await server.run(10_000);
      server.up = false;
      const whileDown = await server.run(outageMs);
      expect(Math.max(...whileDown)).toBeLessThan(ENGINES / 4);
      server.restartEmpty();
      const counts = await server.run(5_000);
      expect(server.directory.documents.size).toBe(2 * ENGINES);
      // Two documents and a refreshment for each engine, over the time that they take.
      expect(Math.max(...counts)).toBeLessThan(ENGINES / 4);
    },
  );

  it('has nothing of engines that died, and keeps those of the others', async () => {
    const server = new SimulatedServer();
    const keepers = await startEngines(server);
    for (const keeper of keepers.slice(0, 400)) keeper.close();
    await server.run(11_000);
    expect(server.directory.documents.size).toBe(2 * (ENGINES - 400));
  });
});
