import type { SegmentDraft } from '../segment/segment-descriptor.ts';
import { encodeSegmentDocument, formatTimestamp } from '../wire/encode-segment-document.ts';
import { toSegmentDocument, type EngineIdentity } from './descriptor-mapping.ts';
import { draftOf, type DraftSource } from './segment-directory.ts';

export interface OwnDocumentOptions {
  readonly identity: EngineIdentity;
  readonly strict?: boolean;
  readonly now?: () => Date;
}

const PLACEHOLDER = '0000-00-00 00:00:00.000000';
const MEMBER = `"timestamp":"${PLACEHOLDER}"`;

/**
 * The own segment's document as peers get it when they ask for it.
 *
 * It is written down at the first question after a publication, and again only after the next one:
 * ten thousand buffers are not encoded for every peer that asks. The timestamp is always fresh.
 */
export class OwnDocument {
  readonly #options: OwnDocumentOptions;
  #published: { readonly source: DraftSource; readonly name: string } | undefined;
  /** What stands before and after the timestamp. */
  #parts: readonly [string, string] | undefined;

  constructor(options: OwnDocumentOptions) {
    this.#options = options;
  }

  publish(source: DraftSource, name: string): void {
    this.#published = { source, name };
    this.#parts = undefined;
  }

  withdraw(): void {
    this.#published = undefined;
    this.#parts = undefined;
  }

  /** JSON text; undefined when nothing is published or no transport has said anything yet. */
  text(): string | undefined {
    if (this.#published === undefined) return undefined;
    this.#parts ??= this.#encode(draftOf(this.#published.source), this.#published.name);
    if (this.#parts === undefined) return undefined;
    const now = this.#options.now?.() ?? new Date();
    const [before, after] = this.#parts;
    return `${before}"timestamp":"${formatTimestamp(now)}"${after}`;
  }

  #encode(draft: SegmentDraft, name: string): readonly [string, string] | undefined {
    const { identity, strict = false } = this.#options;
    const document = toSegmentDocument(draft, { name, identity, strict });
    if (document === undefined) return undefined;
    const json = encodeSegmentDocument(document, { timestamp: PLACEHOLDER });
    // Quotes inside of strings are escaped, so only the member itself can read like this.
    const at = json.indexOf(MEMBER);
    return [json.slice(0, at), json.slice(at + MEMBER.length)];
  }
}
