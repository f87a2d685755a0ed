import { createReadStream } from 'node:fs';
import { open, rename, rm, truncate, writeFile, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { EngineError, type Logger } from '@transfer-engine/core/metadata';
import type { LeaseTerms } from './document-table.ts';
import { lockFile } from './file-lock.ts';

export type DocumentRecord =
  | {
      readonly op: 'put';
      readonly key: string;
      readonly value: Buffer;
      readonly lease?: LeaseTerms | undefined;
    }
  | { readonly op: 'remove'; readonly key: string };

interface Waiting {
  readonly line: string;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

const HEADER = '{"format":"transfer-engine metadata","version":1}';
const NEWLINE = 10;
/** A file is rewritten when it is this much larger than what it holds. */
const WASTE_FACTOR = 2;
const WASTE_BYTES = 1024 * 1024;
const WRITE_CHARACTERS = 1024 * 1024;

/**
 * The documents of a server in one file: a log of changes, which is rewritten now and then.
 *
 * Every line is a checksum (CRC-32 of the rest, 8 hexadecimal digits), a blank and one JSON object.
 * A change counts when it is on the disk (fsync); changes that meet while one is being written go
 * there together. A rewritten file takes the place of the old one by a rename, so at every moment
 * one whole file is there. What follows the first damaged line was never acknowledged, or the disk
 * is broken; it is set aside in a file of its own.
 */
export class DocumentFile {
  readonly path: string;
  readonly #logger: Logger;
  readonly #snapshot: () => Iterable<DocumentRecord>;
  readonly #unlock: () => Promise<void>;
  #handle: FileHandle;
  #fileBytes: number;
  #liveBytes = 0;
  /** Set after a failed write: what the end of the file is like is not known. */
  #torn = false;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;
  #closed = false;

  private constructor(
    path: string,
    handle: FileHandle,
    fileBytes: number,
    parts: {
      readonly logger: Logger;
      readonly snapshot: () => Iterable<DocumentRecord>;
      readonly unlock: () => Promise<void>;
    },
  ) {
    this.path = path;
    this.#handle = handle;
    this.#fileBytes = fileBytes;
    this.#logger = parts.logger;
    this.#snapshot = parts.snapshot;
    this.#unlock = parts.unlock;
  }

  /**
   * Opens or creates the file and replays what it holds.
   *
   * @param snapshot everything that the server holds when it is called, for rewriting the file
   * @throws EngineError `ERR_TE_METADATA` when the file cannot be used, or another process uses it
   */
  static async open(
    path: string,
    options: {
      readonly logger: Logger;
      readonly snapshot: () => Iterable<DocumentRecord>;
      readonly replay: (record: DocumentRecord) => void;
    },
  ): Promise<DocumentFile> {
    const { logger, snapshot, replay } = options;
    const unlock = await lockFile(path);
    try {
      // What a rewriting left behind that was interrupted before its rename.
      await rm(`${path}.new`, { force: true });
      const goodBytes = await replayFile(path, replay, logger);
      const handle = await open(path, 'a');
      const file = new DocumentFile(path, handle, goodBytes, { logger, snapshot, unlock });
      await file.#rewrite();
      return file;
    } catch (error) {
      await unlock();
      throw fileError(path, error);
    }
  }

  /** Resolves when the change is on the disk. */
  append(record: DocumentRecord): Promise<void> {
    if (this.#closed) return Promise.reject(new Error('the file is closed'));
    const done = new Promise<void>((resolve, reject) => {
      this.#waiting.push({ line: toLine(record), resolve, reject });
    });
    this.#writing ??= this.#writeAll();
    return done;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#writing;
    await this.#handle.close();
    await this.#unlock();
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      try {
        if (this.#torn) await this.#rewrite();
        else await this.#write(group.map(({ line }) => line).join(''));
        for (const { resolve } of group) resolve();
        if (this.#isWasteful()) await this.#tidy();
      } catch (error) {
        this.#torn = true;
        this.#logger.error({ err: error, file: this.path }, 'metadata cannot be written to disk');
        for (const { reject } of group) reject(fileError(this.path, error));
      }
    }
    // In the same turn as the last look at what waits: nothing is left without a writer.
    this.#writing = undefined;
  }

  async #write(lines: string): Promise<void> {
    const bytes = Buffer.from(lines);
    await this.#handle.appendFile(bytes);
    await this.#handle.datasync();
    this.#fileBytes += bytes.length;
  }

  #isWasteful(): boolean {
    return this.#fileBytes > WASTE_FACTOR * this.#liveBytes + WASTE_BYTES;
  }

  /** A file that is too long is no failure of the changes in it. */
  async #tidy(): Promise<void> {
    try {
      await this.#rewrite();
    } catch (error) {
      this.#logger.warn({ err: error, file: this.path }, 'the metadata file cannot be rewritten');
      this.#liveBytes = this.#fileBytes;
    }
  }

  /** Writes a file with the documents as they are, which also has the changes that wait. */
  async #rewrite(): Promise<void> {
    const next = `${this.path}.new`;
    const handle = await open(next, 'w');
    let bytes = 0;
    try {
      for (const text of inPieces(this.#snapshot())) {
        const piece = Buffer.from(text);
        await handle.appendFile(piece);
        bytes += piece.length;
      }
      await handle.sync();
    } catch (error) {
      await handle.close();
      await rm(next, { force: true });
      throw error;
    }
    await rename(next, this.path);
    await syncFolder(dirname(this.path));
    await this.#handle.close();
    this.#handle = handle;
    this.#fileBytes = bytes;
    this.#liveBytes = bytes;
    this.#torn = false;
  }
}

/**
 * Joins records to large writes. Changes that come while the file is written may be in it or not:
 * they follow in the log, and each record says all about its key.
 */
function* inPieces(records: Iterable<DocumentRecord>): Iterable<string> {
  let text = withChecksum(HEADER);
  for (const record of records) {
    text += toLine(record);
    if (text.length < WRITE_CHARACTERS) continue;
    yield text;
    text = '';
  }
  yield text;
}

function toLine(record: DocumentRecord): string {
  if (record.op === 'remove') return withChecksum(JSON.stringify(record));
  const { op, key, value, lease } = record;
  return withChecksum(JSON.stringify({ op, key, value: value.toString('base64'), lease }));
}

function withChecksum(json: string): string {
  return `${crc32(json).toString(16).padStart(8, '0')} ${json}\n`;
}

/** The record of a line; undefined for a damaged one, `header` for the first. */
function fromLine(line: string): DocumentRecord | 'header' | undefined {
  const json = line.slice(9);
  if (line.slice(0, 9) !== `${crc32(json).toString(16).padStart(8, '0')} `) return undefined;
  if (json === HEADER) return 'header';
  const { op, key, value, lease } = JSON.parse(json) as {
    op?: unknown;
    key?: unknown;
    value?: unknown;
    lease?: LeaseTerms;
  };
  if (typeof key !== 'string') return undefined;
  if (op === 'remove') return { op, key };
  if (op !== 'put' || typeof value !== 'string') return undefined;
  return { op, key, value: Buffer.from(value, 'base64'), lease };
}

/** Returns the length of the part of the file that is sound; the rest was set aside. */
async function replayFile(
  path: string,
  replay: (record: DocumentRecord) => void,
  logger: Logger,
): Promise<number> {
  let goodBytes = 0;
  let started = false;
  for await (const { line, endsAt } of linesOf(path)) {
    const record = line === undefined ? undefined : fromLine(line);
    if (record === undefined || (!started && record !== 'header')) {
      if (!started) throw new Error('it is no file of a metadata server');
      await setAside(path, goodBytes, logger);
      break;
    }
    started = true;
    if (record !== 'header') replay(record);
    goodBytes = endsAt;
  }
  return goodBytes;
}

/** Lines of a file; a last one without its end is undefined. No file has no lines. */
async function* linesOf(
  path: string,
): AsyncGenerator<{ readonly line: string | undefined; readonly endsAt: number }> {
  let pieces: Buffer[] = [];
  let endsAt = 0;
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      let from = 0;
      for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
        pieces.push(chunk.subarray(from, at));
        const line = Buffer.concat(pieces);
        pieces = [];
        from = at + 1;
        endsAt += line.length + 1;
        yield { line: line.toString('utf8'), endsAt };
      }
      if (from < chunk.length) pieces.push(chunk.subarray(from));
    }
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return;
    throw error;
  }
  if (pieces.length > 0) yield { line: undefined, endsAt };
}

async function setAside(path: string, goodBytes: number, logger: Logger): Promise<void> {
  const aside = `${path}.damaged-${Date.now()}`;
  const rest: Buffer[] = [];
  for await (const chunk of createReadStream(path, { start: goodBytes }) as AsyncIterable<Buffer>)
    rest.push(chunk);
  await writeFile(aside, Buffer.concat(rest));
  await truncate(path, goodBytes);
  logger.warn(
    { file: path, aside, bytes: Buffer.concat(rest).length },
    'the end of the metadata file was not written completely; it was set aside',
  );
}

/** A rename is on the disk when its folder is. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function fileError(path: string, cause: unknown): EngineError {
  if (cause instanceof EngineError) return cause;
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new EngineError(
    'ERR_TE_METADATA',
    `the metadata file ${path} cannot be used (${reason}); check its path, its permissions and ` +
      'the space on its disk',
    { cause, details: { path } },
  );
}
