import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { EngineError } from '@transfer-engine/core';

/** Bytes of one read: large enough for the disk, small enough for the event loop. */
const READ_PIECE = 4 << 20;

/** Size of a regular file in bytes. */
export async function fileSize(path: string): Promise<number> {
  const handle = await openFile(path);
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new EngineError('ERR_TE_INVALID_ARGUMENT', `${path} is not a file`);
    return stat.size;
  } finally {
    await handle.close();
  }
}

/**
 * Reads bytes of a file into the places that `targets` names, in order, from the file's start.
 *
 * @throws EngineError when the file ends before the last target is full
 */
export async function readFileInto(path: string, targets: Iterable<Buffer>): Promise<void> {
  const handle = await openFile(path);
  try {
    let position = 0;
    for (const target of targets) {
      for (let at = 0; at < target.length;) {
        const wanted = Math.min(READ_PIECE, target.length - at);
        const { bytesRead } = await handle.read(target, at, wanted, position);
        if (bytesRead === 0) {
          throw new EngineError(
            'ERR_TE_INVALID_ARGUMENT',
            `${path} ends after ${position} bytes; more were asked for. Use a smaller --size`,
          );
        }
        at += bytesRead;
        position += bytesRead;
      }
    }
  } finally {
    await handle.close();
  }
}

/** SHA-256 of the first `size` bytes of a file, as hexadecimal digits. */
export async function fileSha256(path: string, size: number): Promise<string> {
  const handle = await openFile(path);
  const hash = createHash('sha256');
  for await (const chunk of handle.createReadStream({ end: size - 1 })) {
    hash.update(chunk as Buffer);
  }
  return hash.digest('hex');
}

async function openFile(path: string) {
  try {
    return await open(path, 'r');
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new EngineError('ERR_TE_INVALID_ARGUMENT', `option --file cannot be read: ${reason}`, {
      cause,
    });
  }
}
