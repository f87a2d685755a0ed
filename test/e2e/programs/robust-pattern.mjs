// Bytes that tell where they belong and who put them there: byte `at` of content `mark` is
// noise[at mod PERIOD] ^ mark. Two marks differ in every byte, so each byte of a memory can be
// told: its mark, or that it has no business there.

/** A prime, so that bytes that landed a whole slice too far are not taken for the right ones. */
const PERIOD = 1_048_573;
const CHUNK = 64 * 1024;
/** More different runs than this are garbage; the rest is not listed. */
const RUNS_MAX = 256;
const MARKS_KEPT = 12;

const noise = makeNoise();
/** Two periods of each mark, so that a chunk may start anywhere. */
const contents = new Map();

function makeNoise() {
  const bytes = Buffer.alloc(2 * PERIOD);
  let state = 0x9e3779b9;
  for (let index = 0; index < PERIOD; index += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[index] = state >>> 24;
  }
  bytes.copy(bytes, PERIOD, 0, PERIOD);
  return bytes;
}

function contentOf(mark) {
  let bytes = contents.get(mark);
  if (bytes === undefined) {
    if (contents.size >= MARKS_KEPT) contents.delete(contents.keys().next().value);
    bytes = Buffer.alloc(2 * PERIOD);
    for (let index = 0; index < PERIOD; index += 1) bytes[index] = noise[index] ^ mark;
    bytes.copy(bytes, PERIOD, 0, PERIOD);
    contents.set(mark, bytes);
  }
  return bytes;
}

export function fill(bytes, mark, at) {
  const content = contentOf(mark);
  for (let done = 0; done < bytes.length;) {
    const from = (at + done) % PERIOD;
    done += content.copy(bytes, done, from, Math.min(2 * PERIOD, from + bytes.length - done));
  }
}

/** Joins neighbours: [offset, length, mark], from the start of `bytes`. */
export function runsOf(bytes, at, marks) {
  const runs = [];
  const add = (offset, length, mark) => {
    const last = runs.at(-1);
    if (last !== undefined && last[2] === mark) last[1] += length;
    else runs.push([offset, length, mark]);
  };
  let mark = marks[0];
  for (let done = 0; done < bytes.length && runs.length < RUNS_MAX;) {
    const length = Math.min(CHUNK, bytes.length - done);
    const chunk = bytes.subarray(done, done + length);
    const from = (at + done) % PERIOD;
    const isOf = (candidate) => chunk.equals(contentOf(candidate).subarray(from, from + length));
    const found = isOf(mark) ? mark : marks.find(isOf);
    if (found === undefined) {
      for (let index = 0; index < length && runs.length < RUNS_MAX;) {
        const start = index;
        const byte = chunk[index] ^ noise[from + index];
        while (index < length && (chunk[index] ^ noise[from + index]) === byte) index += 1;
        add(done + start, index - start, byte);
      }
    } else {
      mark = found;
      add(done, length, mark);
    }
    done += length;
  }
  return runs;
}
