import type { SegmentDescriptor, SegmentDraft } from '../segment/segment-descriptor.ts';

/** A segment and where the control port of its engine is. */
export interface ResolvedSegment {
  readonly descriptor: SegmentDescriptor;
  /** Host name or address to dial; IPv6 without brackets. */
  readonly host: string;
  readonly rpcPort: number;
}

export interface ControlAddress {
  readonly host: string;
  readonly rpcPort: number;
}

export interface DirectoryCallOptions {
  /** Ends the wait; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Milliseconds; every directory has a finite default. */
  readonly timeoutMs?: number;
}

/** A description, or how to make one. A draft is not changed after it was handed over. */
export type DraftSource = SegmentDraft | (() => SegmentDraft);

/**
 * How an engine finds segments and lets its own be found: through a metadata store, or by asking
 * the peers themselves (P2PHANDSHAKE).
 *
 * Errors: `ERR_TE_SEGMENT_NOT_FOUND` when there is no such segment, `ERR_TE_METADATA` when the
 * store cannot be used or a document is malformed, `ERR_TE_TIMEOUT`, `ERR_TE_CLOSED`; in P2P mode
 * also the errors of a control exchange. Every call ends within its bound.
 */
export interface SegmentDirectory {
  /** Fetches the document of a segment. Leading "/" of the name are skipped, as in C++. */
  resolve(name: string, options?: DirectoryCallOptions): Promise<ResolvedSegment>;
  /** Finds the control port of an engine without its segment. */
  locate(name: string, options?: DirectoryCallOptions): Promise<ControlAddress>;
  /** Lets peers find the control port of the engine called `name`. The first thing to publish. */
  announce(name: string, address: ControlAddress, options?: DirectoryCallOptions): Promise<void>;
  /**
   * Offers the own segment. Resolves when a description at least as new as this one is out; calls
   * that meet while one is being written are joined, and the latest description wins.
   */
  publish(draft: DraftSource, name: string, options?: DirectoryCallOptions): Promise<void>;
  /** Takes back what was announced and published; nothing else is touched. */
  withdraw(options?: DirectoryCallOptions): Promise<void>;
  /**
   * Calls `onChange` soon after the published segment may have changed, where the directory can
   * tell; the caller resolves it again then. A hint, which may be late, missing or for nothing.
   *
   * @returns ends it
   */
  watch?(name: string, onChange: () => void): () => void;
  close(): Promise<void>;
}

export function draftOf(source: DraftSource): SegmentDraft {
  return typeof source === 'function' ? source() : source;
}
