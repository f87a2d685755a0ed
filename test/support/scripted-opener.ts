import { ByteReader } from './byte-reader.ts';
import type { RecordedConnection } from './vectors.ts';

export interface OpenerScript {
  readonly port: number;
  /** The recorded bytes as this run's opener sends them. */
  readonly outgoing: (recorded: Buffer) => Buffer;
  /** Called with each answer and what was recorded in its place. */
  readonly check: (answer: Buffer, recorded: Buffer) => void;
  /**
   * Bytes of the answer at the start of the stream, once it is whole. Default: as many as were
   * recorded.
   */
  readonly answerSize?: (bytes: Buffer) => number | undefined;
  /** Bytes in one write; everything that was recorded together by default. */
  readonly pieceBytes?: number;
}

/**
 * Plays the side that opened a recorded connection against a real listener.
 *
 * A recorded reset of the listener is not waited for: whether a close with unread bytes becomes one
 * is a matter of time. In its place the listener must take what is left and close.
 */
export async function playOpener(
  connection: RecordedConnection,
  script: OpenerScript,
): Promise<void> {
  const reader = await ByteReader.connect(script.port);
  const { socket } = reader;
  try {
    for (const message of connection.messages) {
      if (message.from === 'opener') {
        if (message.event !== undefined) socket.end();
        else await send(reader, script, Buffer.from(message.hex ?? '', 'hex'));
      } else if (message.event === 'fin') {
        await reader.expectEnd();
      } else if (message.event === undefined) {
        const recorded = Buffer.from(message.hex ?? '', 'hex');
        const size =
          script.answerSize ??
          ((bytes: Buffer) => (bytes.length < recorded.length ? undefined : recorded.length));
        script.check(await reader.readFrame(size), recorded);
      }
    }
    socket.end();
    await reader.closed();
  } finally {
    socket.destroy();
  }
}

async function send(reader: ByteReader, script: OpenerScript, recorded: Buffer): Promise<void> {
  const bytes = script.outgoing(recorded);
  const piece = script.pieceBytes ?? bytes.length;
  for (let at = 0; at < bytes.length; at += piece) {
    const part = bytes.subarray(at, at + piece);
    await new Promise<void>((resolve) => reader.socket.write(part, () => resolve()));
  }
}
