// One engine in a process of its own, driven by messages of its parent: { id, method, argument }
// is answered with { id, result } or { id, error }. Without a parent it ends.
import { createHash } from 'node:crypto';
import { createEngine } from '@transfer-engine/core';
import { openStore } from '@transfer-engine/metadata';
import { shm } from '@transfer-engine/transport-shm';
import { tcp } from '@transfer-engine/transport-tcp';

// Made lazily otherwise, by whatever touches it first, and counted as a handle from then on.
void process.stderr;

let engine;
let nextId = 1;
const regions = new Map();
const segments = new Map();
const batches = new Map();
const streams = new Map();
const controllers = new Map();

const patternByte = (at, seed) => (at * 131 + seed) & 0xff;

function fillPattern(bytes, seed, at) {
  // The pattern repeats every 256 bytes: the first period is computed, the rest is copied.
  const first = Math.min(bytes.length, 256);
  for (let index = 0; index < first; index += 1) bytes[index] = patternByte(at + index, seed);
  for (let done = first; done < bytes.length; done *= 2) bytes.copyWithin(done, 0, done);
}

function mismatch(bytes, seed, at) {
  const period = Buffer.alloc(64 * 1024);
  fillPattern(period, seed, at);
  for (let done = 0; done < bytes.length; done += period.length) {
    const part = bytes.subarray(done, done + period.length);
    if (part.equals(period.subarray(0, part.length))) continue;
    return done + part.findIndex((byte, index) => byte !== period[index]);
  }
  return -1;
}

const regionOf = (id) => regions.get(id);
const part = (id, offset = 0, length = regionOf(id).length - offset) =>
  regionOf(id).bytes.subarray(offset, offset + length);

function toRequest({ segment, region, ...rest }) {
  return { ...rest, segment: segments.get(segment) ?? segment, local: regionOf(region) ?? region };
}

function toOptions({ abort, ...options } = {}) {
  if (abort === undefined) return options;
  const controller = new AbortController();
  controllers.set(abort, controller);
  return { ...options, signal: controller.signal };
}

const describeSegment = (id, segment) => ({
  id,
  name: segment.name,
  buffers: segment.buffers.map(({ name, address, length }) => ({ name, address, length })),
  protocols: [...segment.protocols],
  tcpDataPort: segment.tcpDataPort,
  tcpProtoVersion: segment.tcpProtoVersion,
});

const plainStatus = ({ error, notifyError, ...status }) => ({
  ...status,
  ...(error === undefined ? {} : { error: toPlain(error) }),
  ...(notifyError === undefined ? {} : { notifyError: toPlain(notifyError) }),
});

const methods = {
  // `user`: gives up being root first; `shmOptions`: shared memory is preferred to TCP.
  async create({ store, tcpOptions, shmOptions, user, ...options }) {
    if (user !== undefined) process.setuid(user);
    engine = await createEngine({
      environment: {},
      ...options,
      ...(store === undefined ? {} : { metadata: await openStore(store) }),
      transports: [...(shmOptions === undefined ? [] : [shm(shmOptions)]), tcp(tcpOptions)],
    });
    return {
      name: engine.segmentName,
      address: engine.address,
      dataPort: engine.localSegment.tcpDataPort,
    };
  },
  async close() {
    await engine.close();
  },

  async register({ length, seed, ...options }) {
    const bytes = Buffer.alloc(length);
    if (seed !== undefined) fillPattern(bytes, seed, 0);
    const region = await engine.registerMemory(bytes, options);
    const id = nextId++;
    regions.set(id, region);
    return { id, address: region.address, length: region.length };
  },
  async allocate({ length, seed, ...options }) {
    const region = await engine.allocateMemory(length, { transport: 'shm', ...options });
    if (seed !== undefined) {
      const bytes = Buffer.alloc(length);
      fillPattern(bytes, seed, 0);
      await region.write(0, bytes);
    }
    const id = nextId++;
    regions.set(id, region);
    return { id, address: region.address, length: region.length, hasView: region.hasView };
  },
  // SHA-256 of a region, whether it can be seen as memory or not.
  async digest({ region }) {
    const hash = createHash('sha256');
    const part = Buffer.alloc(Math.min(4 * 1024 * 1024, regionOf(region).length));
    for (let at = 0; at < regionOf(region).length; at += part.length) {
      const piece = part.subarray(0, Math.min(part.length, regionOf(region).length - at));
      await regionOf(region).read(at, piece);
      hash.update(piece);
    }
    return hash.digest('hex');
  },
  async unregister({ region }) {
    await regionOf(region).unregister();
  },
  fill({ region, seed, offset, length }) {
    fillPattern(part(region, offset, length), seed, offset ?? 0);
  },
  // Index of the first wrong byte, counted from the start of the range; -1 when all are right.
  // `at` is where the pattern starts; by default where the range starts.
  check({ region, seed, offset = 0, length, at = offset }) {
    return mismatch(part(region, offset, length), seed, at);
  },
  bytes({ region, offset, length }) {
    return Buffer.from(part(region, offset, length));
  },

  async open({ name, ...options }) {
    const segment = await engine.openSegment(name, options);
    const id = nextId++;
    segments.set(id, segment);
    return describeSegment(id, segment);
  },
  async refresh({ segment }) {
    await segments.get(segment).refresh();
    return describeSegment(segment, segments.get(segment));
  },
  // As it is known now: nothing is fetched.
  look({ segment }) {
    return describeSegment(segment, segments.get(segment));
  },
  async closeSegment({ segment }) {
    await segments.get(segment).close();
  },

  async transfer({ opcode, request, options }) {
    return engine[opcode](toRequest(request), toOptions(options));
  },
  submitBatch({ requests, options }) {
    const batch = engine.createBatch(requests.length);
    batch.submit(requests.map(toRequest), toOptions(options));
    const id = nextId++;
    batches.set(id, batch);
    return id;
  },
  async settled({ batch }) {
    const status = await batches.get(batch).settled;
    return { ...plainStatus(status), atMs: Date.now() };
  },
  overall({ batch }) {
    return plainStatus(batches.get(batch).overall());
  },
  statuses({ batch }) {
    const handle = batches.get(batch);
    return Array.from({ length: handle.size }, (_, index) => plainStatus(handle.status(index)));
  },
  async columns({ segment, region, columns, options }) {
    const { errors, ...result } = await engine.submitColumns(
      segments.get(segment),
      { ...columns, localRegion: regionOf(region) },
      toOptions(options),
    );
    return { ...result, errors: [...errors].map(([row, error]) => [row, toPlain(error)]) };
  },
  abort({ abort }) {
    controllers.get(abort).abort(new Error('the test says so'));
  },

  // Writes and reads back one block again and again until it is told to stop.
  startStream({ segment, region, remoteAddress, length }) {
    const id = nextId++;
    const state = { rounds: 0, failures: [], stop: false, done: undefined };
    streams.set(id, state);
    state.done = runStream(state, segments.get(segment), regionOf(region), remoteAddress, length);
    return id;
  },
  streamRounds({ stream }) {
    return streams.get(stream).rounds;
  },
  async stopStream({ stream }) {
    const state = streams.get(stream);
    state.stop = true;
    await state.done;
    return { rounds: state.rounds, failures: state.failures };
  },

  async notify({ target, notification }) {
    await engine.notify(target, notification);
  },
  takeNotifications() {
    return engine.takeNotifications();
  },
  async probe({ target, options }) {
    return engine.probe(target, options);
  },
  stats() {
    return engine.stats();
  },
  // What keeps the process busy or is held by it, sorted; and its memory, after a collection.
  resources() {
    return process.getActiveResourcesInfo().sort();
  },
  memory() {
    globalThis.gc?.();
    return process.memoryUsage();
  },
};

async function runStream(state, segment, region, remoteAddress, length) {
  for (let seed = 0; !state.stop; seed = (seed + 1) & 0xff) {
    try {
      fillPattern(region.bytes.subarray(0, length), seed, 0);
      await engine.write({ segment, local: region, remoteAddress, length });
      region.bytes.fill(0, length, 2 * length);
      await engine.read({ segment, local: region, localOffset: length, remoteAddress, length });
      const wrong = mismatch(region.bytes.subarray(length, 2 * length), seed, 0);
      if (wrong !== -1) throw new Error(`byte ${wrong} of round ${state.rounds} is wrong`);
      state.rounds += 1;
    } catch (error) {
      state.failures.push(toPlain(error));
      if (state.failures.length > 10) return;
    }
  }
}

function toPlain(error) {
  const { name, message, code, stack, details } = error;
  return { name, message, code, stack, details };
}

process.on('message', async ({ id, method, argument }) => {
  try {
    const result = await methods[method](argument ?? {});
    process.send({ id, result, atMs: Date.now() });
  } catch (error) {
    process.send({ id, error: toPlain(error), atMs: Date.now() });
  }
});
process.on('disconnect', () => process.exit(0));
process.send({ id: 0, result: 'ready' });
