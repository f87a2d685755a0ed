import { readFileSync, readdirSync } from 'node:fs';

/** One side's bytes, or the end of one side's stream. */
export interface RecordedMessage {
  readonly from: 'opener' | 'listener';
  readonly hex?: string;
  readonly event?: 'fin' | 'rst';
}

export interface RecordedConnection {
  readonly listener: 'target-rpc' | 'target-data' | 'metadata-server';
  readonly messages: readonly RecordedMessage[];
}

/** What the recorded initiator was told to do. */
export interface RecordedOperation {
  /** Operations in their order, separated by commas. */
  readonly op: string;
  readonly offset?: number;
  readonly length?: number;
  readonly batch?: number;
  readonly notify_name?: string;
  readonly notify_msg?: string;
}

/** An exchange between two C++ engines, byte for byte. */
export interface Vector {
  readonly name: string;
  readonly connections: readonly RecordedConnection[];
  readonly operation: readonly RecordedOperation[];
  readonly target_buffers: readonly { readonly addr: string; readonly length: number }[];
}

const folder = new URL('../vectors/te/', import.meta.url);

export function loadVector(name: string): Vector {
  return JSON.parse(readFileSync(new URL(`${name}.json`, folder), 'utf8')) as Vector;
}

/** Any other recorded document. */
export function loadRecorded<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`${name}.json`, folder), 'utf8')) as T;
}

export function vectorNames(pattern: RegExp): string[] {
  return readdirSync(folder)
    .map((file) => file.replace(/\.json$/, ''))
    .filter((name) => pattern.test(name))
    .sort();
}

/** All bytes that one side sent on a connection. */
export function bytesOf(connection: RecordedConnection, from: RecordedMessage['from']): Buffer {
  return Buffer.concat(
    connection.messages
      .filter((message) => message.from === from)
      .map((message) => Buffer.from(message.hex ?? '', 'hex')),
  );
}

export function connectionsTo(
  vector: Vector,
  listener: RecordedConnection['listener'],
): readonly RecordedConnection[] {
  return vector.connections.filter((connection) => connection.listener === listener);
}

/** The only operation of a vector that has one. */
export function operationOf(vector: Vector): RecordedOperation {
  const [operation] = vector.operation;
  if (operation === undefined || vector.operation.length !== 1) {
    throw new Error(`${vector.name} has ${vector.operation.length} operations`);
  }
  return operation;
}
