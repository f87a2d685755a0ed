import { closeSync } from 'node:fs';
import { EngineError } from '@transfer-engine/core/transport';
import type { NativeMemory } from '../ffi/native-memory.ts';
import { exists, isAlive, type ProcessIdentity } from '../objects/process-identity.ts';
import { openObject } from '../objects/shared-object.ts';
import { decodeHeader, type ControlHeader } from './control-header.ts';
import {
  CONTROL_BYTES,
  EngineState,
  HEADER_BYTES,
  ROWS,
  ROWS_USED_AT,
  ROW_BYTES,
  STATE_AT,
  VERSION_AT,
  decodeRow,
  type ControlRow,
} from './control-layout.ts';
import { ControlPages } from './control-pages.ts';
import { PeerTable } from './peer-table.ts';

/** How often the whole identity of the peer's process is compared, in milliseconds. */
const IDENTITY_MS = 100;
/** Tries to read the rows while their owner is writing them; each takes microseconds. */
const READ_ATTEMPTS = 1000;

/** Not the version of anything: versions of what can be read are even. */
const UNSTABLE = -1;

/** Where a peer's control object is, as its document says. */
export interface ControlPlace {
  readonly name: string;
  readonly token: string;
}

/** The control object of a peer, read only. That it could be opened proves that we share it. */
export class PeerControl {
  readonly tag: number;
  readonly #peer: string;
  readonly #pages: ControlPages;
  readonly #owner: ProcessIdentity;
  #version = UNSTABLE;
  #latestVersion = UNSTABLE;
  #latest = new PeerTable([]);
  #table = new PeerTable([]);
  #comparedAtMs = Number.NEGATIVE_INFINITY;

  private constructor(peer: string, pages: ControlPages, { owner, tag }: ControlHeader) {
    this.#peer = peer;
    this.#pages = pages;
    this.#owner = owner;
    this.tag = tag;
  }

  /**
   * Opens and checks the object that the peer's document names.
   *
   * @throws EngineError `ERR_TE_CONNECT_FAILED` when it is not there, not ours to read, or not the
   * peer's: the peer sees another /dev/shm, or processes of another namespace.
   */
  static open(init: {
    readonly peer: string;
    readonly directory: string;
    readonly place: ControlPlace;
    readonly own: ProcessIdentity;
    readonly native: NativeMemory | undefined;
  }): PeerControl {
    const { peer, directory, place, own, native } = init;
    const code = 'ERR_TE_CONNECT_FAILED';
    const object = openObject({ directory, name: place.name, writable: false, code });
    const refuse = (why: string) =>
      new EngineError(code, `"${peer}" shares no memory with us: ${object.path} ${why}`, {
        details: { peer, path: object.path },
      });
    if (object.size !== CONTROL_BYTES) {
      closeSync(object.fd);
      throw refuse(`has ${object.size} bytes instead of ${CONTROL_BYTES}`);
    }
    const pages = new ControlPages(native, object.fd, false);
    const header = decodeHeader(pages.read(0, HEADER_BYTES));
    const flaw =
      header === undefined
        ? 'is no control object'
        : header.token !== place.token
          ? 'has another token than its document'
          : header.owner.namespace !== own.namespace
            ? 'belongs to another pid namespace'
            : undefined;
    if (header !== undefined && flaw === undefined) return new PeerControl(peer, pages, header);
    pages.close();
    throw refuse(flaw ?? '');
  }

  get pid(): number {
    return this.#owner.pid;
  }

  /** Why nothing may be moved any more; undefined while the peer is there. */
  trouble(nowMs: number): EngineError | undefined {
    if (this.#pages.word(STATE_AT) !== EngineState.open) return this.#lost('has closed its engine');
    // Asked for every time, although it takes half a microsecond: who knows that a process has ended
    // must not be told afterwards that bytes arrived in it.
    if (nowMs - this.#comparedAtMs < IDENTITY_MS) {
      if (exists(this.#owner.pid)) return undefined;
    } else if (isAlive(this.#owner)) {
      this.#comparedAtMs = nowMs;
      return undefined;
    }
    return this.#lost(`has ended (process ${this.#owner.pid})`);
  }

  /** Whether the peer offers other memory than {@link table} says. */
  get changed(): boolean {
    return this.#pages.word(VERSION_AT) !== this.#version;
  }

  /** What the peer offers, as of the last {@link refresh}. */
  get table(): PeerTable {
    return this.#table;
  }

  /**
   * Makes {@link table} what the peer offers now.
   * @returns false when its owner is in the middle of a change: ask again later
   */
  refresh(): boolean {
    const table = this.latest();
    if (this.#latestVersion % 2 !== 0) return false;
    this.#version = this.#latestVersion;
    this.#table = table;
    return true;
  }

  /** What the peer offers at this moment, as well as that can be told, without a change of {@link table}. */
  latest(): PeerTable {
    for (let attempt = 0; attempt < READ_ATTEMPTS; attempt += 1) {
      const version = this.#pages.word(VERSION_AT);
      if (version === this.#latestVersion) return this.#latest;
      if (version % 2 !== 0) continue;
      const rows = this.#readRows();
      if (this.#pages.word(VERSION_AT) !== version) continue;
      this.#latestVersion = version;
      this.#latest = new PeerTable(rows);
      return this.#latest;
    }
    this.#latestVersion = UNSTABLE;
    return this.#latest;
  }

  #readRows(): ControlRow[] {
    const used = Math.min(this.#pages.word(ROWS_USED_AT), ROWS);
    const bytes = this.#pages.read(HEADER_BYTES, used * ROW_BYTES);
    const rows: ControlRow[] = [];
    for (let index = 0; index < used; index += 1) {
      const row = decodeRow(bytes, index * ROW_BYTES);
      if (row !== undefined) rows.push(row);
    }
    return rows;
  }

  close(): void {
    this.#pages.close();
  }

  #lost(how: string): EngineError {
    return new EngineError(
      'ERR_TE_PEER_LOST',
      `"${this.#peer}" ${how}; open its segment again when it is back`,
      { details: { peer: this.#peer, pid: this.#owner.pid } },
    );
  }
}
