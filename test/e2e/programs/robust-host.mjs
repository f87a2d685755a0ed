// One engine with one region, for the scenarios in which things go wrong: it runs whole plans by
// itself, so that what happens in the middle of a transfer happens in its middle.
import { execFileSync } from 'node:child_process';
import { createEngine } from '@transfer-engine/core';
import { tcp } from '@transfer-engine/transport-tcp';
import { memory, resources, serve, tell, toPlain } from './robust-channel.mjs';
import { fill, runsOf } from './robust-pattern.mjs';

let engine;
let region;
/** Promises of the engine that have not settled, by what was asked for. */
const pending = new Map();
const segments = new Map();
let nextPending = 1;

function track(what, promise) {
  const id = nextPending++;
  pending.set(id, what);
  const done = () => pending.delete(id);
  promise.then(done, done);
  return promise;
}

const part = (offset, length) => region.bytes.subarray(offset, offset + length);
const isWrite = (row) => row.opcode === 'write';

const methods = {
  // The region is filled before anybody can know of it.
  async create({ options, tcpOptions, length, mark }) {
    const bytes = Buffer.alloc(length);
    if (mark !== undefined) fill(bytes, mark, 0);
    engine = await createEngine({ environment: {}, ...options, transports: [tcp(tcpOptions)] });
    region = await engine.registerMemory(bytes);
    return {
      name: engine.segmentName,
      rpcPort: engine.address.rpcPort,
      dataPort: engine.localSegment.tcpDataPort,
      address: region.address,
    };
  },

  // ---- memory

  fill({ parts }) {
    for (const { offset, length, mark, at } of parts) fill(part(offset, length), mark, at);
  },
  runs({ offset = 0, length = region.length, at = offset, marks }) {
    return runsOf(part(offset, length), at, marks);
  },
  // What is there now; from then on something else is there. Nothing comes in between.
  harvest({ marks, mark }) {
    const runs = runsOf(region.bytes, 0, marks);
    fill(region.bytes, mark, 0);
    return runs;
  },

  // ---- transfers

  async open({ key, name, timeoutMs }) {
    const segment = await track(`open ${name}`, engine.openSegment(name, { timeoutMs }));
    segments.set(key, segment);
    return { address: segment.buffers[0].address, dataPort: segment.tcpDataPort };
  },
  async closeSegment({ key }) {
    const segment = segments.get(key);
    segments.delete(key);
    await track('segment.close', segment.close());
  },
  async refresh({ key, timeoutMs }) {
    const segment = segments.get(key);
    await track('segment.refresh', segment.refresh({ timeoutMs }));
    return { address: segment.buffers[0].address, dataPort: segment.tcpDataPort };
  },
  async probe({ name, timeoutMs }) {
    return track('probe', engine.probe(name, { timeoutMs }));
  },
  async run(plan) {
    return new Plan(plan).run();
  },

  // ---- leaks

  state() {
    return { resources: resources(), stats: engine.stats(), pending: [...pending.values()] };
  },
  memory,
  async unregister() {
    await track('unregister', region.unregister({ busy: 'refuse' }));
  },
  async close() {
    await track('engine.close', engine.close());
  },
};

/** Batches that run side by side, and something that happens in the middle of the first one. */
class Plan {
  #plan;
  #batches = [];
  #controller = new AbortController();
  #actedAt;
  #actedAfterBytes = -1;
  #action;

  constructor(plan) {
    this.#plan = plan;
  }

  async run() {
    const { batches, marks } = this.#plan;
    const startedAt = performance.now();
    const ended = batches.map((spec, index) => {
      const batch = engine.createBatch(spec.rows.length);
      this.#batches.push(batch);
      const signal = index === 0 ? { signal: this.#controller.signal } : {};
      batch.submit(
        spec.rows.map(({ opcode, segment, local, length, address }) => ({
          opcode,
          segment: segments.get(segment),
          local: region,
          localOffset: local,
          length,
          remoteAddress: address,
        })),
        { ...spec.options, ...signal },
      );
      return track(`batch ${spec.name}`, batch.settled).then((status) => {
        const settledAt = performance.now();
        const results = this.#inspect(batch, spec, marks);
        const after = this.#actedAt === undefined ? undefined : settledAt - this.#actedAt;
        const { completed, failed, durability } = status;
        const timing = { elapsedMs: settledAt - startedAt, afterActionMs: after };
        return { name: spec.name, completed, failed, durability, ...timing, rows: results };
      });
    });
    await this.#actInTheMiddle(startedAt);
    const results = await Promise.all(ended);
    const actionError = await this.#action?.then(
      () => undefined,
      (error) => toPlain(error),
    );
    for (const batch of this.#batches) batch.free();
    return { batches: results, actedAfterBytes: this.#actedAfterBytes, actionError };
  }

  /** What every row says and what is in local memory, which is overwritten at once. */
  #inspect(batch, spec, marks) {
    return spec.rows.map((row, index) => {
      const { state, bytes, error, destination } = batch.status(index);
      const local = part(row.local, row.length);
      const runs = isWrite(row) ? [] : runsOf(local, row.remote, marks.known);
      fill(local, marks.poison, row.remote);
      return { state, bytes, destination, runs, error: error && toPlain(error) };
    });
  }

  async #actInTheMiddle(startedAt) {
    const { action } = this.#plan;
    if (action === undefined) return;
    const [main] = this.#batches;
    let over = false;
    void main.settled.then(() => {
      over = true;
    });
    const due = () =>
      action.afterMs === undefined
        ? main.overall().bytes >= action.afterBytes
        : performance.now() - startedAt >= action.afterMs;
    while (!over && !due()) await new Promise((resolve) => setImmediate(resolve));
    this.#actedAfterBytes = main.overall().bytes;
    this.#actedAt = performance.now();
    this.#act(action, main);
  }

  #act(action, main) {
    if (action.kind === 'abort') this.#controller.abort(new Error('the plan says so'));
    else if (action.kind === 'cancel') this.#action = track('batch.cancel', main.cancel());
    else if (action.kind === 'signal') process.kill(action.pid, action.signal);
    else if (action.kind === 'tell') tell('middle');
    // Nothing of this process comes between the decision and what is done.
    else if (action.kind === 'command') execFileSync(action.command[0], action.command.slice(1));
    else if (action.kind === 'close') {
      const segment = segments.get(action.segment);
      segments.delete(action.segment);
      this.#action = track('segment.close', segment.close());
    } else throw new Error(`what is "${action.kind}"?`);
  }
}

serve(methods);
