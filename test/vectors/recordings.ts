import { readdirSync, readFileSync } from 'node:fs';

/** What one side sent before the other side spoke, or the end of its sending. */
export interface RecordedMessage {
  readonly from: 'opener' | 'listener';
  readonly hex?: string;
  readonly event?: 'fin';
}

export interface RecordedConnection {
  /** "target-rpc" is a control port, "target-data" a TCP data port. */
  readonly listener: string;
  readonly messages: readonly RecordedMessage[];
}

/** Bytes that two C++ engines exchanged. */
export interface Recording {
  readonly name: string;
  readonly connections: readonly RecordedConnection[];
}

/** Keys and values that one C++ engine left in a metadata store. */
export interface StoredState {
  readonly ready: {
    readonly segment: string;
    readonly rpc_port: number;
    readonly tcp_data_port: number;
    readonly buffers: readonly { readonly addr: string; readonly length: number }[];
  };
  readonly keys?: Readonly<Record<string, string>>;
  /** What it asked of an HTTP store instead. */
  readonly requests?: readonly { readonly method: string; readonly body: string }[];
}

/** A file of this folder, and its path for the names of tests. */
function readAll(folder: string): { path: string; content: unknown }[] {
  return readdirSync(new URL(folder, import.meta.url))
    .filter((file) => file.endsWith('.json'))
    .map((file) => ({
      path: `${folder}${file}`,
      content: JSON.parse(readFileSync(new URL(folder + file, import.meta.url), 'utf8')) as unknown,
    }));
}

export function readRecordings(folder: string): Recording[] {
  return readAll(folder)
    .map(({ content }) => content)
    .filter((content): content is Recording => Object.hasOwn(content as object, 'connections'));
}

export function readStoredStates(folder: string): { path: string; state: StoredState }[] {
  return readAll(folder)
    .filter(({ path }) => path.includes('metadata-'))
    .flatMap(({ path, content }) =>
      Object.entries(content as Record<string, StoredState>).map(([part, state]) => ({
        path: `${path} ${part}`,
        state,
      })),
    );
}
