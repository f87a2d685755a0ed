import { connect, type Socket } from 'node:net';
import { patternBytes } from './patterns.ts';
import { within } from './waiting.ts';
import { buildControlFrame, buildDataHeader } from './wire-bytes.ts';

/** Which of the two ports, and what is sent there before the end of the stream. */
export interface HostileExchange {
  readonly what: string;
  readonly port: 'control' | 'data';
  readonly bytes: Buffer;
}

const U64_MAX = 2n ** 64n - 1n;

/** A small generator of its own, so that a seed gives the same bytes on every machine. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const frame = (type: number, text: string) => buildControlFrame({ type, text });
const withLength = (length: bigint, rest: string) => {
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(length);
  return Buffer.concat([head, Buffer.from(rest)]);
};

/** What is no request of either port. */
const FOREIGN: readonly (readonly [string, Buffer])[] = [
  ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n')],
  ['a long HTTP request', Buffer.from(`POST /${'x'.repeat(5000)} HTTP/1.1\r\n\r\n`)],
  [
    'a TLS hello',
    Buffer.concat([Buffer.from('16030100f1010000ed0303', 'hex'), patternBytes(230, 1)]),
  ],
  ['an SSH banner', Buffer.from('SSH-2.0-OpenSSH_9.6\r\n')],
  ['zeros', Buffer.alloc(4096)],
  ['ones', Buffer.alloc(4096, 0xff)],
];

/** Documents of the wrong types, for every kind of message. */
const TEXTS = [
  '[1]',
  '[]',
  '1',
  '"x"',
  'true',
  'null',
  '{',
  '}',
  '{"a":',
  "{'a':1}",
  'nan',
  '',
  '{"qp_num":["x"]}',
  '{"qp_num":[-1]}',
  '{"qp_num":5}',
  '{"local_nic_path":[1]}',
  '{"local_lid":1e99,"local_gid":{}}',
  '{"name":{}}',
  '{"name":[],"notify_msg":{}}',
  '{"name":"a"}',
  '{"notify_msg":18446744073709551616}',
  '{"protocol":["tcp","rdma"],"buffers":5}',
  '{"buffers":[[[[]]]],"tcp_data_port":"x"}',
  `{"a":${'9'.repeat(5000)}}`,
  `{"a":"${'\\u0000'.repeat(500)}"}`,
  '['.repeat(50_000),
  `${'[{"a":'.repeat(20_000)}1`,
  `${'['.repeat(990)}${']'.repeat(990)}`,
  '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}',
];

function controlExchanges(): HostileExchange[] {
  const list: HostileExchange[] = FOREIGN.map(([what, bytes]) => ({
    what,
    port: 'control',
    bytes,
  }));
  const add = (what: string, bytes: Buffer) => list.push({ what, port: 'control', bytes });
  for (const length of [
    0n,
    1n << 20n,
    (1n << 20n) + 1n,
    1n << 27n,
    1n << 53n,
    1n << 63n,
    U64_MAX,
  ]) {
    add(`length ${length}`, withLength(length, '\x01{}'));
  }
  for (const type of [4, 0x7a, 0x7f, 0x80, 0xfe, 0xff]) add(`type ${type}`, frame(type, '{}\n'));
  for (const type of [0, 1, 2, 3]) {
    for (const text of TEXTS) add(`type ${type}: ${text.slice(0, 40)}`, frame(type, text));
    const whole = frame(type, '{"name":"a","notify_msg":"b"}\n');
    for (const cut of [3, 8, 9, whole.length - 1]) add(`cut at ${cut}`, whole.subarray(0, cut));
    add(
      'bytes that are no UTF-8',
      Buffer.concat([withLength(5n, ''), Buffer.from([type, 0xc3, 0x28, 0xff, 0xfe])]),
    );
  }
  return list;
}

/** @param victim a registered range that may be written to, so that valid requests occur as well */
function dataExchanges(victim: { address: bigint; length: number }): HostileExchange[] {
  const list: HostileExchange[] = FOREIGN.map(([what, bytes]) => ({ what, port: 'data', bytes }));
  const add = (what: string, bytes: Buffer) => list.push({ what, port: 'data', bytes });
  const { address } = victim;
  const size = BigInt(victim.length);
  for (let opcode = 0; opcode < 256; opcode += 1) {
    const header = buildDataHeader({ length: 16n, address, opcode });
    add(`opcode ${opcode}`, Buffer.concat([header, Buffer.alloc(16, opcode)]));
  }
  const ranges: readonly (readonly [bigint, bigint])[] = [
    [address, 0n],
    [address, size + 1n],
    [address - 1n, 1n],
    [address + size, 1n],
    [address, U64_MAX],
    [address, 2n ** 63n],
    [address, 2n ** 53n],
    [U64_MAX, 1n],
    [U64_MAX, U64_MAX],
    [U64_MAX - 7n, 8n],
    [0n, 1n],
    [0n, U64_MAX],
    [2n ** 53n, 16n],
    [2n ** 53n + address, 16n],
    [2n ** 63n + address, 16n],
    [2n ** 32n + address, 16n],
  ];
  for (const [start, length] of ranges) {
    for (const opcode of [0x00, 0x01, 0x80, 0x81]) {
      const header = buildDataHeader({ length, address: start, opcode });
      add(`${length} bytes at ${start}`, Buffer.concat([header, Buffer.alloc(64, 0xee)]));
    }
  }
  for (const opcode of [0x00, 0x01, 0x80, 0x81]) {
    const header = buildDataHeader({ length: size, address, opcode });
    for (const cut of [1, 8, 16, 17, 23]) add(`cut at ${cut}`, header.subarray(0, cut));
    add('payload cut', Buffer.concat([header, Buffer.alloc(100, 0xdd)]));
  }
  return list;
}

/** `count` exchanges: everything that is known to hurt, and random bytes for the rest. */
export function hostileExchanges(
  count: number,
  seed: number,
  victim: { address: bigint; length: number },
): HostileExchange[] {
  const random = generator(seed);
  const list = [...controlExchanges(), ...dataExchanges(victim)];
  if (list.length > count) throw new Error(`${list.length} exchanges are more than ${count}`);
  while (list.length < count) {
    const bytes = Buffer.alloc(1 + Math.floor(random() * 2000));
    for (let at = 0; at < bytes.length; at += 1) bytes[at] = Math.floor(random() * 256);
    list.push({ what: 'random bytes', port: list.length % 2 === 0 ? 'control' : 'data', bytes });
  }
  // Mixed, so that neither port has a quiet time.
  for (let at = list.length - 1; at > 0; at -= 1) {
    const other = Math.floor(random() * (at + 1));
    [list[at], list[other]] = [list[other] as HostileExchange, list[at] as HostileExchange];
  }
  return list;
}

/** Sends the bytes and the end of the stream; resolves with the answer's size when it is closed. */
export function attack(
  port: number,
  { what, bytes }: HostileExchange,
  ms: number,
): Promise<number> {
  let received = 0;
  const closed = new Promise<number>((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.on('data', (chunk) => {
      received += chunk.length;
    });
    // Being reset is one of the ways to be shown out.
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(received));
    socket.on('connect', () => socket.end(bytes));
  });
  return within(closed, ms, `the end of a connection that sent ${what}`);
}

/** A client that sends what it is given, and then nothing, not even an end. */
export function hang(port: number, bytes: Buffer): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.removeListener('error', reject);
      socket.on('error', () => undefined);
      socket.resume();
      if (bytes.length === 0) resolve(socket);
      else socket.write(bytes, () => resolve(socket));
    });
  });
}
