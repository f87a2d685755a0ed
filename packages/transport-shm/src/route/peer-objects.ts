import type { ControlRow } from '../control/control-layout.ts';
import type { PeerTable } from '../control/peer-table.ts';
import { PeerObject, type ObjectAccess } from './peer-object.ts';

/** The regions of one peer that are open here. A region is opened by the first slice that needs it. */
export class PeerObjects {
  readonly #access: ObjectAccess;
  readonly #byKey = new Map<string, PeerObject>();
  #byRow = new Map<ControlRow, PeerObject>();

  constructor(access: ObjectAccess) {
    this.#access = access;
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** @throws EngineError `ERR_TE_PEER_LOST` */
  get(row: ControlRow): PeerObject {
    const known = this.#byRow.get(row);
    if (known !== undefined) return known;
    const key = keyOf(row);
    let object = this.#byKey.get(key);
    if (object === undefined) {
      object = PeerObject.open(this.#access, row);
      this.#byKey.set(key, object);
    }
    this.#byRow.set(row, object);
    return object;
  }

  /** Closes what the peer does not offer any more. Nothing may be using it. */
  keep(table: PeerTable): void {
    const offered = new Set(table.rows.map(keyOf));
    this.#byRow = new Map();
    for (const [key, object] of this.#byKey) {
      if (offered.has(key)) continue;
      this.#byKey.delete(key);
      object.close();
    }
  }

  /** Forgets a region whose object turned out to be broken; it is opened again when needed. */
  drop(object: PeerObject): void {
    const key = keyOf(object.row);
    if (this.#byKey.get(key) !== object) return;
    this.#byKey.delete(key);
    this.#byRow = new Map();
    object.close();
  }

  close(): void {
    for (const object of this.#byKey.values()) object.close();
    this.#byKey.clear();
    this.#byRow.clear();
  }
}

/** The same key means the same bytes: an address may be offered again with another object behind. */
function keyOf({ name, inode, address, length, offset, writable }: ControlRow): string {
  return `${inode}/${address}/${length}/${offset}/${writable ? 'w' : 'r'}/${name}`;
}
