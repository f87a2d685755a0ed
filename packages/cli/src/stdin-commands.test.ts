import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parseTargetCommand } from './stdin-commands.ts';

it.each([
  ['sum', { kind: 'sum' }],
  ['  notifies ', { kind: 'notifies' }],
  ['quit', { kind: 'quit' }],
  ['cpu', { kind: 'cpu' }],
  ['probe 127.0.0.1:1', { kind: 'probe', segment: '127.0.0.1:1' }],
  ['fill 9', { kind: 'fill', seed: 9 }],
  ['check 1 2 3 4', { kind: 'check', buffer: 1, offset: 2, length: 3, seed: 4 }],
  ['addbuf 4K', { kind: 'addbuf', bytes: 4096 }],
  ['delbuf 0', { kind: 'delbuf', buffer: 0 }],
  ['notify seg n a  message', { kind: 'notify', segment: 'seg', name: 'n', message: 'a  message' }],
  ['notify seg n', { kind: 'notify', segment: 'seg', name: 'n', message: '' }],
])('understands %j', (line, command) => {
  expect(parseTargetCommand(line)).toEqual(command);
});

it('skips empty lines', () => {
  expect(parseTargetCommand('')).toBeUndefined();
  expect(parseTargetCommand('  \t')).toBeUndefined();
});

it.each([
  'sum up',
  'probe',
  'probe a b',
  'fill',
  'fill x',
  'fill -1',
  'check 0 0 1',
  'check 0 0 1 2 3',
  'check a 0 1 2',
  'addbuf',
  'addbuf 0',
  'addbuf many',
  'delbuf',
  'delbuf 1 2',
  'notify',
  'notify seg',
])('refuses %j under the name of its command', (line) => {
  const [name] = line.split(' ');
  expect(parseTargetCommand(line)).toMatchObject({ kind: 'refused', command: name });
});

it.each(['SUM', 'constructor', 'toString', 'explode now'])('does not know %j', (line) => {
  const refused = parseTargetCommand(line);
  expect(refused).toMatchObject({ kind: 'refused', command: undefined });
  expect(refused).toHaveProperty('problem', expect.stringContaining('accepted: sum, notifies'));
});

it('answers any line', () => {
  fc.assert(
    fc.property(fc.string(), (line) => {
      const command = parseTargetCommand(line);
      expect(command === undefined).toBe(line.trim() === '');
    }),
  );
});
