import {
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

const pollMs = 200;
const heartbeatMs = 2_000;
/** An owner that was silent for so long is gone, even if its process id is in use again. */
const silentMs = 60_000;
const patienceMs = 15 * 60_000;

/**
 * Runs `work` while no other process runs something under the same lock file.
 *
 * The file holds the owner's process id and is touched while the owner works. A lock whose owner
 * died is taken over; after 15 minutes of waiting the call gives up with an error.
 */
export async function withFileLock(path, work) {
  const release = await acquire(path);
  const removeOnExit = () => release();
  process.once('exit', removeOnExit);
  try {
    return await work();
  } finally {
    process.off('exit', removeOnExit);
    release();
  }
}

async function acquire(path) {
  mkdirSync(dirname(path), { recursive: true });
  const deadline = Date.now() + patienceMs;
  let told = false;
  while (!claim(path)) {
    const owner = lookAt(path);
    if (owner === undefined) continue;
    if (!owner.alive) {
      takeAway(path, owner.text);
      continue;
    }
    if (Date.now() > deadline) {
      throw new Error(`${path} is held by process ${owner.text}; remove it if that is wrong`);
    }
    if (!told) process.stderr.write(`Waiting for process ${owner.text}, which does the same ...\n`);
    told = true;
    await wait(pollMs);
  }
  const heartbeat = setInterval(() => touch(path), heartbeatMs);
  heartbeat.unref();
  return () => {
    clearInterval(heartbeat);
    if (lookAt(path)?.text === String(process.pid)) rmSync(path, { force: true });
  };
}

/** Creates the lock file if there is none. */
function claim(path) {
  return unless('EEXIST', false, () => {
    writeFileSync(path, String(process.pid), { flag: 'wx' });
    return true;
  });
}

function lookAt(path) {
  return unless('ENOENT', undefined, () => {
    const text = readFileSync(path, 'utf8');
    const silent = Date.now() - statSync(path).mtimeMs > silentMs;
    // Between its creation and its first byte the file is empty for a moment.
    return { text, alive: !silent && (text === '' || processExists(Number(text))) };
  });
}

/** Removes a dead owner's lock, and only that: somebody else may have been faster. */
function takeAway(path, deadOwner) {
  const aside = `${path}.${process.pid}`;
  unless('ENOENT', undefined, () => renameSync(path, aside));
  const found = lookAt(aside);
  if (found === undefined) return;
  if (found.text !== deadOwner) unless('EEXIST', undefined, () => linkSync(aside, path));
  rmSync(aside, { force: true });
}

function touch(path) {
  const now = new Date();
  unless('ENOENT', undefined, () => utimesSync(path, now, now));
}

function processExists(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it exists and belongs to somebody else.
    return error.code === 'EPERM';
  }
}

/** Runs `action`; a failure with this code is an answer, any other is thrown on. */
function unless(code, answer, action) {
  try {
    return action();
  } catch (error) {
    if (error.code === code) return answer;
    throw error;
  }
}
