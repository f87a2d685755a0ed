import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deferred, type Deferred } from '../base/deferred.ts';
import { LatestWriter } from './latest-writer.ts';

/** Writes that a test lets through one by one. */
class Writes {
  readonly started: number[] = [];
  readonly #gates: Deferred<void>[] = [];

  write(state: number): () => Promise<void> {
    return () => {
      this.started.push(state);
      const gate = deferred<void>();
      this.#gates.push(gate);
      return gate.promise;
    };
  }

  async finish(error?: Error): Promise<void> {
    const gate = this.#gates.shift();
    if (error === undefined) gate?.resolve();
    else gate?.reject(error);
    await turn();
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

describe('LatestWriter', () => {
  it('joins what is requested during a write into one more, of the latest state', async () => {
    const writes = new Writes();
    const writer = new LatestWriter();
    const done: number[] = [];
    const requests = [1, 2, 3, 4].map(async (state) => {
      await writer.request(writes.write(state));
      done.push(state);
    });
    expect(writes.started).toEqual([1]);
    await writes.finish();
    expect([writes.started, done]).toEqual([[1, 4], [1]]);
    await writes.finish();
    await Promise.all(requests);
    expect([writes.started, done]).toEqual([
      [1, 4],
      [1, 2, 3, 4],
    ]);
  });

  it('tells a failure to those whose state was in that write, and goes on', async () => {
    const writes = new Writes();
    const writer = new LatestWriter();
    const results = Promise.allSettled(
      [1, 2, 3].map((state) => writer.request(writes.write(state))),
    );
    await writes.finish(new Error('first'));
    await writes.finish(new Error('second'));
    expect(
      (await results).map((result) => result.status === 'rejected' && String(result.reason)),
    ).toEqual(['Error: first', 'Error: second', 'Error: second']);
    const next = writer.request(writes.write(4));
    await writes.finish();
    await next;
    expect(writes.started).toEqual([1, 3, 4]);
  });

  it('takes a throw for a failed write', async () => {
    const writer = new LatestWriter();
    const failing = writer.request(() => {
      throw new Error('no');
    });
    await expect(failing).rejects.toThrow('no');
    await writer.request(() => Promise.resolve());
  });

  it('never runs two writes at once, and nobody is told too early', async () => {
    const actions = fc.array(fc.constantFrom('request', 'finish', 'fail'), { maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(actions, async (steps) => {
        const writes = new Writes();
        const writer = new LatestWriter();
        let running = 0;
        let state = 0;
        /** The newest state of which a write has ended. */
        let written = 0;
        const requests: Promise<void>[] = [];
        const request = () => {
          state += 1;
          const own = state;
          const write = writes.write(own);
          const counted = async () => {
            running += 1;
            expect(running).toBe(1);
            try {
              await write();
            } finally {
              running -= 1;
              written = own;
            }
          };
          const check = () => expect(written).toBeGreaterThanOrEqual(own);
          requests.push(
            writer
              .request(counted)
              .then(check, check)
              .then(() => undefined),
          );
        };
        for (const step of steps) {
          if (step === 'request') request();
          else await writes.finish(step === 'fail' ? new Error('fail') : undefined);
        }
        await writes.finish();
        await writes.finish();
        await Promise.all(requests);
        expect(writes.started.at(-1) ?? 0).toBe(state);
      }),
      { numRuns: 100 },
    );
  });
});
