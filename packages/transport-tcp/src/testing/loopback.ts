import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import {
  BufferStore,
  Opcode,
  type Clock,
  type Permission,
  type Peer,
  type RegisteredRegion,
  type Slice,
  type Route,
  type Transport,
  type TransportHost,
} from '@transfer-engine/core/transport';
import {
  createTestHost,
  describeSegment,
  RecordingSink,
  TestRun,
  type SliceDescription,
  type TestHostOverrides,
} from '@transfer-engine/core/testing';
import { tcp, type TcpOptions } from '../index.ts';

export interface LoopbackOptions {
  readonly address?: string;
  readonly initiator?: TcpOptions;
  readonly target?: TcpOptions;
  readonly environment?: Readonly<Record<string, string>>;
  readonly initiatorClock?: Clock;
  readonly targetClock?: Clock;
  /** Both engines are of our kind, and may use framing x1. */
  readonly extended?: boolean;
  /** The target serves only what C++ knows. */
  readonly strictTarget?: boolean;
}

/** Instance of targets that serve framing x1. */
export const INSTANCE = '0123456789abcdef';
const CAPABILITY = 'tcp.x1';

/** One engine's side. */
export class End {
  readonly host: TransportHost;
  readonly transport: Transport;

  constructor(options: TcpOptions, overrides: TestHostOverrides) {
    this.host = createTestHost(overrides);
    this.transport = tcp(options).create(this.host);
  }

  register(
    bytes: Buffer | ArrayBuffer,
    permission: Permission = 'global-read-write',
  ): RegisteredRegion {
    const store = new BufferStore(bytes);
    return this.host.registry.add([{ store, permission, location: '*' }])[0] as RegisteredRegion;
  }

  /** A counter of this side. */
  count(name: string): number {
    return this.transport.stats?.()[name] ?? Number.NaN;
  }
}

/** An initiator and a target in this process, over real sockets. */
export class Loopback {
  readonly sink = new RecordingSink();
  readonly initiator: End;
  readonly target: End;
  readonly #address: string;

  private constructor(options: LoopbackOptions) {
    this.#address = options.address ?? '127.0.0.1';
    const bindHost = this.#address === 'localhost' ? undefined : this.#address;
    this.initiator = new End(options.initiator ?? {}, {
      bindHost,
      sink: this.sink,
      environment: options.environment ?? {},
      seed: 1,
      ...(options.initiatorClock && { clock: options.initiatorClock }),
    });
    this.target = new End(options.target ?? {}, {
      bindHost,
      seed: 2,
      ...(options.extended === true && { instance: INSTANCE }),
      ...(options.strictTarget === true && { strict: true }),
      ...(options.targetClock && { clock: options.targetClock }),
    });
  }

  static async start(options: LoopbackOptions = {}): Promise<Loopback> {
    const pair = new Loopback(options);
    await Promise.all([pair.initiator.transport.start(), pair.target.transport.start()]);
    return pair;
  }

  get peer(): Peer {
    return { descriptor: describeSegment(this.target), host: this.#address };
  }

  /** As {@link peer}, from a document that another engine has left behind. */
  stalePeer(instance: string): Peer {
    return extendedPeer(this.targetPort, instance);
  }

  get targetPort(): number {
    return this.peer.descriptor.tcpDataPort;
  }

  get route(): Route {
    return this.initiator.transport.reach(this.peer) as Route;
  }

  /** Posts a run until all of it was taken and has ended. */
  async drive(route: Route, slices: readonly SliceDescription[], name?: string): Promise<TestRun> {
    const run = new TestRun(slices, name);
    while (run.left > 0) {
      const calls = this.sink.calls + this.sink.readyRoutes.length;
      route.post(run);
      if (run.left === 0) break;
      await this.sink.until(() => this.sink.calls + this.sink.readyRoutes.length > calls);
    }
    await this.sink.settled(run, run.size);
    return run;
  }

  async close(): Promise<void> {
    await Promise.all([this.initiator.transport.close(), this.target.transport.close()]);
  }
}

/** A peer that follows a script instead of the protocol, and a route to it. */
export class ScriptedPeer {
  readonly sink = new RecordingSink();
  readonly initiator: End;
  readonly sockets: Socket[] = [];
  readonly #server: Server;
  #waiting: ((socket: Socket) => void)[] = [];
  #accepted = 0;
  #port = 0;

  private constructor(
    onSocket: (socket: Socket, index: number) => void,
    end: End,
    sink: RecordingSink,
  ) {
    this.initiator = end;
    this.sink = sink;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => undefined);
      const index = this.sockets.push(socket) - 1;
      onSocket(socket, index);
      this.#waiting.shift()?.(socket);
    });
  }

  static async start(
    onSocket: (socket: Socket, index: number) => void,
    options: TcpOptions = {},
    overrides: TestHostOverrides = {},
  ): Promise<ScriptedPeer> {
    const sink = new RecordingSink();
    const peer = new ScriptedPeer(onSocket, new End(options, { ...overrides, sink }), sink);
    peer.#server.listen(0, '127.0.0.1');
    await once(peer.#server, 'listening');
    peer.#port = (peer.#server.address() as AddressInfo).port;
    return peer;
  }

  get port(): number {
    return this.#port;
  }

  route(tcpProtoVersion = 2): Route {
    return this.initiator.transport.reach(scriptedPeer(this.port, tcpProtoVersion)) as Route;
  }

  /** The next connection that has not been asked for yet. */
  async accepted(): Promise<Socket> {
    const known = this.sockets[this.#accepted];
    this.#accepted += 1;
    if (known !== undefined) return known;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Refuses further connections; those that are there live on. */
  refuseMore(): void {
    this.#server.close();
  }

  /** Ends the listener and what it accepted; afterwards connections are refused. */
  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    await closed;
  }

  async close(): Promise<void> {
    await this.initiator.transport.close();
    await this.stop();
  }
}

export function scriptedPeer(tcpDataPort: number, tcpProtoVersion: number): Peer {
  return {
    host: '127.0.0.1',
    descriptor: {
      name: 'scripted',
      protocols: ['tcp'],
      tcpDataPort,
      tcpProtoVersion,
      buffers: [],
      devices: [],
      priorityMatrix: {},
    },
  };
}

/** A peer whose document promises framing x1. */
export function extendedPeer(tcpDataPort: number, instance: string = INSTANCE): Peer {
  const { host, descriptor } = scriptedPeer(tcpDataPort, 2);
  const extras = { version: 1, instance, host: 'test-host', capabilities: [CAPABILITY] };
  return { host, descriptor: { ...descriptor, extras } };
}

/** A slice whose bytes travel with a checksum, when its run is a {@link CheckedRun}. */
export class CheckedRun extends TestRun {
  override peek(into: Slice): boolean {
    into.checksum = true;
    return super.peek(into);
  }
}

/** A client that speaks bytes. */
export class RawClient {
  readonly socket: Socket;
  #bytes = Buffer.alloc(0);
  #changed: (() => void) | undefined;
  ended = false;
  error: Error | undefined;
  closed = false;

  private constructor(socket: Socket) {
    this.socket = socket;
    const changed = () => this.#changed?.();
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      changed();
    });
    socket.on('end', () => {
      this.ended = true;
      changed();
    });
    socket.on('error', (error) => {
      this.error = error;
    });
    socket.on('close', () => {
      this.closed = true;
      changed();
    });
  }

  static async connect(port: number, host = '127.0.0.1'): Promise<RawClient> {
    const socket = connect({ port, host, noDelay: true, allowHalfOpen: true });
    await once(socket, 'connect');
    return new RawClient(socket);
  }

  /** Takes exactly `count` bytes of what came. */
  async read(count: number): Promise<Buffer> {
    await this.until(() => this.#bytes.length >= count || this.ended || this.closed);
    const bytes = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return bytes;
  }

  /** Everything up to the end of the stream, however it ends. */
  async rest(): Promise<Buffer> {
    await this.until(() => this.ended || this.closed);
    return this.read(this.#bytes.length);
  }

  write(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }
}

/** A request header, written without the code under test. */
export function header(opcode: number, length: bigint | number, address: bigint | number): Buffer {
  const bytes = Buffer.alloc(24);
  bytes.writeBigUInt64LE(BigInt(length), 0);
  bytes.writeBigUInt64LE(BigInt(address), 8);
  bytes[16] = opcode;
  return bytes;
}

export const READ_V1 = 0x00;
export const WRITE_V1 = 0x01;
export const READ_V2 = 0x80;
export const WRITE_V2 = 0x81;
export const STATUS_OK = Buffer.from('000000005654434d', 'hex');
export const STATUS_REJECTED = Buffer.from('010000005654434d', 'hex');

/** Bytes that differ for every seed and at every shift. */
export function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = (Math.imul(seed + 1, 0x9e3779b1) ^ 0x5bd1e995) >>> 0 || 1;
  for (let index = 0; index < length; index += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[index] = state & 0xff;
  }
  return bytes;
}

export function write(local: Buffer, address: bigint | number): SliceDescription {
  return { opcode: Opcode.write, local, address };
}

export function read(local: Buffer, address: bigint | number): SliceDescription {
  return { opcode: Opcode.read, local, address };
}

/** Runs events until the condition holds; the runner's own timeout bounds it. */
export async function eventually(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}
