import { EngineError } from '@transfer-engine/core';
import { expect, it } from 'vitest';
import { usageFailure } from './failures.ts';
import { Output } from './output.ts';
import { textTable } from './text-table.ts';

function outputOf(json: boolean) {
  const stdout: string[] = [];
  const stderr: string[] = [];
  const output = new Output(
    json,
    { isTTY: true, write: (text: string) => stdout.push(text) },
    { write: (text: string) => stderr.push(text) },
  );
  return { output, stdout, stderr };
}

it('writes nothing but events in JSON mode', () => {
  const { output, stdout, stderr } = outputOf(true);
  output.event({ event: 'up', port: 1, missing: undefined }, 'is up');
  output.text('table');
  output.screen.write('bar');
  output.failure('te x', new EngineError('ERR_TE_TIMEOUT', 'late'));
  expect(stdout).toEqual([
    '{"event":"up","port":1}\n',
    '{"event":"error","error":{"code":"ERR_TE_TIMEOUT","message":"ERR_TE_TIMEOUT: late"}}\n',
  ]);
  expect(stderr).toEqual([]);
});

it('writes text for people otherwise, and failures to stderr', () => {
  const { output, stdout, stderr } = outputOf(false);
  output.event({ event: 'up' }, 'is up');
  output.event({ event: 'hidden' });
  output.text('table');
  output.failure('te x', usageFailure('option --a is "b"'));
  expect(stdout).toEqual(['is up\n', 'table\n']);
  expect(stderr).toEqual(['te x: ERR_TE_INVALID_ARGUMENT: option --a is "b"\n']);
});

it('is silent when it was muted', () => {
  const { output, stdout } = outputOf(true);
  output.mute();
  output.event({ event: 'late' });
  expect(stdout).toEqual([]);
});

it('aligns tables', () => {
  expect(
    textTable(
      [
        ['a', 'GB/s'],
        ['longer', '1.5'],
      ],
      1,
    ),
  ).toBe('a       GB/s\nlonger   1.5');
});
