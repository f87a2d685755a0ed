import { parseBytes, BYTES_ACCEPTED } from './units.ts';

/** What a target understands on its standard input. */
export type TargetCommand =
  | { readonly kind: 'sum' }
  | { readonly kind: 'notifies' }
  | {
      readonly kind: 'notify';
      readonly segment: string;
      readonly name: string;
      readonly message: string;
    }
  | { readonly kind: 'probe'; readonly segment: string }
  | { readonly kind: 'fill'; readonly seed: number }
  | {
      readonly kind: 'check';
      readonly buffer: number;
      readonly offset: number;
      readonly length: number;
      readonly seed: number;
    }
  | { readonly kind: 'addbuf'; readonly bytes: number }
  | { readonly kind: 'delbuf'; readonly buffer: number }
  | { readonly kind: 'cpu' }
  | { readonly kind: 'quit' }
  /** `command` is the name, or undefined when the target has no command of this name. */
  | { readonly kind: 'refused'; readonly command: string | undefined; readonly problem: string };

const USAGE = {
  sum: 'sum',
  notifies: 'notifies',
  notify: 'notify SEGMENT NAME MESSAGE',
  probe: 'probe SEGMENT',
  fill: 'fill SEED',
  check: 'check BUFFER OFFSET LENGTH SEED',
  addbuf: 'addbuf BYTES',
  delbuf: 'delbuf BUFFER',
  cpu: 'cpu',
  quit: 'quit',
} as const;
type CommandName = keyof typeof USAGE;

/** Reads one line; undefined for an empty one, which is not answered. */
export function parseTargetCommand(line: string): TargetCommand | undefined {
  const words = line.trim().split(/\s+/);
  const [first = '', ...rest] = words;
  if (first === '') return undefined;
  if (!isCommandName(first)) {
    return {
      kind: 'refused',
      command: undefined,
      problem: `command ${JSON.stringify(first.slice(0, 80))} is unknown; accepted: ${Object.values(USAGE).join(', ')}`,
    };
  }
  return (
    parseKnown(first, rest, line) ?? {
      kind: 'refused',
      command: first,
      problem:
        `${JSON.stringify(line.trim().slice(0, 160))} is not understood; accepted: ${USAGE[first]}` +
        (first === 'addbuf' ? `, where BYTES is ${BYTES_ACCEPTED}` : ', with whole numbers from 0'),
    }
  );
}

function parseKnown(
  name: CommandName,
  words: readonly string[],
  line: string,
): TargetCommand | undefined {
  const [one, two, three, four] = words.map(wholeNumber);
  switch (name) {
    case 'sum':
    case 'notifies':
    case 'cpu':
    case 'quit':
      return words.length === 0 ? { kind: name } : undefined;
    case 'notify':
      return parseNotify(line);
    case 'probe': {
      const [segment] = words;
      return segment !== undefined && words.length === 1 ? { kind: name, segment } : undefined;
    }
    case 'fill':
      return one !== undefined && words.length === 1 ? { kind: name, seed: one } : undefined;
    case 'check':
      if (one === undefined || two === undefined || three === undefined || four === undefined)
        return undefined;
      if (words.length !== 4) return undefined;
      return { kind: name, buffer: one, offset: two, length: three, seed: four };
    case 'addbuf': {
      const bytes = parseBytes(words[0] ?? '');
      return bytes !== undefined && bytes > 0 && words.length === 1
        ? { kind: name, bytes }
        : undefined;
    }
    case 'delbuf':
      return one !== undefined && words.length === 1 ? { kind: name, buffer: one } : undefined;
  }
}

/** The message is the rest of the line as it stands, spaces included; it may be empty. */
function parseNotify(line: string): TargetCommand | undefined {
  const match = /^\s*notify\s+(\S+)\s+(\S+)(?:\s(.*))?$/s.exec(line);
  const [, segment, name, message = ''] = match ?? [];
  if (segment === undefined || name === undefined) return undefined;
  return { kind: 'notify', segment, name, message };
}

function wholeNumber(word: string): number | undefined {
  return /^\d{1,15}$/.test(word) ? Number(word) : undefined;
}

function isCommandName(word: string): word is CommandName {
  return Object.hasOwn(USAGE, word);
}
