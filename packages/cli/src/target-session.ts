import { EngineError, type Engine } from '@transfer-engine/core';
import { reportOf } from './failures.ts';
import type { EventValue, Output } from './output.ts';
import { findMismatch } from './patterns.ts';
import { LINE_MAX } from './stdin-lines.ts';
import { parseTargetCommand, type TargetCommand } from './stdin-commands.ts';
import type { TargetBuffers } from './target-buffers.ts';

type Facts = Readonly<Record<string, EventValue>>;

/** Obeys lines one after the other; each is answered by exactly one line. */
export class TargetSession {
  readonly #engine: Engine;
  readonly #buffers: TargetBuffers;
  readonly #output: Output;
  #seed: number;

  constructor(engine: Engine, buffers: TargetBuffers, output: Output, seed: number) {
    this.#engine = engine;
    this.#buffers = buffers;
    this.#output = output;
    this.#seed = seed;
  }

  /** @returns false when the line asked for the end; {@link finish} answers it then */
  async obey(line: string | undefined): Promise<boolean> {
    if (line === undefined) {
      this.#refuse(
        undefined,
        `a line is longer than ${LINE_MAX} characters; accepted: shorter ones`,
      );
      return true;
    }
    const command = parseTargetCommand(line);
    if (command === undefined) return true;
    if (command.kind === 'quit') return false;
    if (command.kind === 'refused') this.#refuse(command.command, command.problem);
    else await this.#answer(command);
    return true;
  }

  async finish(): Promise<void> {
    const sums = await this.#buffers.sums();
    this.#output.event({ event: 'final', sha256: sums }, ['final', ...sums].join('\n  '));
  }

  async #answer(command: Exclude<TargetCommand, { kind: 'quit' | 'refused' }>): Promise<void> {
    const event = command.kind;
    try {
      if (command.kind === 'sum') {
        const sums = await this.#buffers.sums();
        this.#output.event({ event, sha256: sums }, ['sum', ...sums].join('\n  '));
        return;
      }
      if (command.kind === 'notifies') {
        const items = this.#engine
          .takeNotifications()
          .map(({ name, message }) => ({ name, msg: message }));
        const shown = items.map(({ name, msg }) => `${name}: ${msg}`);
        this.#output.event({ event, items }, ['notifies', ...shown].join('\n  '));
        return;
      }
      const { ok = true, ...facts } = await this.#perform(command);
      this.#output.event({ event, ok, ...facts }, `${event} ${ok === true ? 'ok' : 'failed'}`);
    } catch (thrown) {
      const error = reportOf(thrown);
      this.#output.event({ event, ok: false, error: { ...error } }, error.message);
    }
  }

  async #perform(
    command: Exclude<TargetCommand, { kind: 'quit' | 'refused' | 'sum' | 'notifies' }>,
  ): Promise<Facts> {
    switch (command.kind) {
      case 'notify':
        await this.#engine.notify(command.segment, {
          name: command.name,
          message: command.message,
        });
        return {};
      case 'probe':
        return { ok: await this.#engine.probe(command.segment) };
      case 'fill':
        this.#seed = command.seed;
        await this.#buffers.fillAll(command.seed);
        return {};
      case 'check':
        return await this.#check(command);
      case 'addbuf': {
        const index = await this.#buffers.add(command.bytes, (memory) =>
          this.#buffers.fill(memory, this.#seed),
        );
        const { address, length } = this.#buffers.at(index);
        return { index, addr: address.toString(), length };
      }
      case 'delbuf':
        await this.#buffers.remove(command.buffer);
        return { index: command.buffer };
      case 'cpu': {
        const { user, system } = process.cpuUsage();
        return { user_us: user, system_us: system };
      }
    }
  }

  async #check(command: Extract<TargetCommand, { kind: 'check' }>): Promise<Facts> {
    const { buffer, offset, length, seed } = command;
    const region = this.#buffers.at(buffer);
    if (offset + length > region.length) {
      throw new EngineError(
        'ERR_TE_INVALID_ARGUMENT',
        `range [${offset}, ${offset + length}) leaves buffer ${buffer}; accepted: inside its ${region.length} bytes`,
      );
    }
    const bytes = region.bytes.subarray(offset, offset + length);
    const at = await findMismatch(bytes, seed, offset);
    return at === -1 ? {} : { ok: false, mismatch_at: offset + at };
  }

  #refuse(command: string | undefined, problem: string): void {
    const error = reportOf(new EngineError('ERR_TE_INVALID_ARGUMENT', problem));
    if (command === undefined) this.#output.event({ event: 'error', error: { ...error } }, problem);
    else this.#output.event({ event: command, ok: false, error: { ...error } }, problem);
  }
}
