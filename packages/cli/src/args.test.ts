import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { asksForJson, expectPositionals, optionName, parseArguments } from './args.ts';
import { SetUpFailure } from './failures.ts';
import {
  address,
  anyText,
  bytes,
  choice,
  decimal,
  flag,
  integer,
  list,
  requiredText,
  switchOption,
  text,
} from './options.ts';

const SPECS = {
  bufferIndex: integer({ min: 0, max: 9, fallback: 0, help: 'h' }),
  size: bytes({ min: 1, max: 1 << 30, fallback: 4096, help: 'h' }),
  duration: decimal('S', { min: 0.1, max: 10, fallback: 1, help: 'h' }),
  name: text('NAME', { help: 'h' }),
  notifyMsg: anyText('TEXT', { help: 'h', fallback: 'done' }),
  op: choice(['read', 'write'], { help: 'h', fallback: 'write' }),
  ops: list(['read', 'write', 'probe'], { help: 'h', fallback: ['read'] }),
  addr: address('h'),
  batchRegister: flag('h'),
  json: switchOption('h'),
} as const;

const parse = (...argv: string[]) => parseArguments('te test', SPECS, argv);
const refusal = (...argv: string[]) => {
  try {
    parse(...argv);
  } catch (thrown) {
    if (thrown instanceof SetUpFailure) return thrown.message;
    throw thrown;
  }
  throw new Error('was accepted');
};

describe('parseArguments', () => {
  it('fills in what is not given', () => {
    expect(parse()).toEqual({
      values: {
        bufferIndex: 0,
        size: 4096,
        duration: 1,
        name: undefined,
        notifyMsg: 'done',
        op: 'write',
        ops: ['read'],
        addr: undefined,
        batchRegister: false,
        json: undefined,
      },
      positionals: [],
    });
  });

  it('takes names with - and _, and values with = or after a space', () => {
    for (const argv of [
      ['--buffer-index', '3'],
      ['--buffer_index', '3'],
      ['--buffer-index=3'],
      ['--buffer_index=3'],
    ]) {
      expect(parse(...argv).values.bufferIndex).toBe(3);
    }
  });

  it('leaves - and _ of values alone', () => {
    expect(parse('--name=a_b-c').values.name).toBe('a_b-c');
    expect(parse('--name', 'a_b').values.name).toBe('a_b');
    expect(parse('--', '--a_b').positionals).toEqual(['--a_b']);
  });

  it('takes flags alone and with =true and =false', () => {
    expect(parse('--json').values.json).toBe(true);
    expect(parse('--json=true').values.json).toBe(true);
    expect(parse('--json=false').values.json).toBe(false);
    expect(parse('--batch_register', 'word')).toMatchObject({
      values: { batchRegister: true },
      positionals: ['word'],
    });
  });

  it('lets the last one of two count', () => {
    expect(parse('--size=1', '--size', '2K').values.size).toBe(2048);
  });

  it('reads lists, choices, addresses and decimals', () => {
    const { values } = parse(
      '--ops=write,read,write',
      '--op=read',
      '--addr=0xff',
      '--duration=0.3',
    );
    expect(values).toMatchObject({ ops: ['write', 'read', 'write'], op: 'read', addr: 255n });
    expect(values.duration).toBe(0.3);
    expect(parse('--addr=18446744073709551615').values.addr).toBe(0xffff_ffff_ffff_ffffn);
  });

  it('takes an empty text only where one makes sense', () => {
    expect(parse('--notify-msg=').values.notifyMsg).toBe('');
    expect(refusal('--name=')).toContain('--name is ""');
  });

  it.each([
    [['--buffer_index=ten'], '--buffer-index is "ten"', 'from 0 to 9'],
    [['--buffer-index=10'], '--buffer-index is "10"', 'from 0 to 9'],
    [['--buffer-index', '-1'], '--buffer-index is "-1"', 'from 0 to 9'],
    [['--size=0'], '--size is "0"', 'from 1 to 1073741824'],
    [['--size=4 apples'], '--size is "4 apples"', '1MiB'],
    [['--size=1.0001'], '--size is "1.0001"', 'bytes'],
    [['--op=erase'], '--op is "erase"', 'read, write'],
    [['--ops=read,,write'], '--ops is "read,,write"', 'read, write, probe'],
    [['--ops=READ'], '--ops is "READ"', 'read, write, probe'],
    [['--addr=-1'], '--addr is "-1"', 'unsigned 64-bit'],
    [['--addr=18446744073709551616'], '--addr is "18446744073709551616"', 'unsigned 64-bit'],
    [['--duration=1e3'], '--duration is "1e3"', 'from 0.1 to 10'],
    [['--json=yes'], '--json is "yes"', 'true or false'],
    [['--name'], '--name has no value', 'text'],
    [['--name', '--json'], '--name has no value', 'text'],
    [['--bufferindex=1'], '--bufferindex is unknown', '--buffer-index'],
    [['-x'], '-x is unknown', '--size'],
  ])('refuses %j and says what it would take', (argv, named, accepted) => {
    const message = refusal(...argv);
    expect(message).toContain(named);
    expect(message).toContain(accepted);
    expect(message).toMatch(/^ERR_TE_INVALID_ARGUMENT: /);
  });

  it('refuses a missing option that is required', () => {
    const specs = { target: requiredText('SEGMENT', 'h') };
    expect(() => parseArguments('te test', specs, [])).toThrow(/option --target is missing/);
    expect(parseArguments('te test', specs, ['--target=a']).values.target).toBe('a');
  });

  it('accepts or refuses any text, and never fails otherwise', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            fc.string(),
            fc.string().map((s) => `--${s}`),
          ),
        ),
        (argv) => {
          try {
            parse(...argv);
          } catch (thrown) {
            expect(thrown).toBeInstanceOf(SetUpFailure);
          }
        },
      ),
      { numRuns: 2_000 },
    );
  });
});

describe('the rest of the command line', () => {
  it('names options in kebab case', () => {
    expect(optionName('notifyMsg')).toBe('notify-msg');
    expect(optionName('op')).toBe('op');
  });

  it('counts positional arguments', () => {
    expect(() => expectPositionals('te test', ['a'], ['KEY'])).not.toThrow();
    expect(() => expectPositionals('te test', [], ['KEY'])).toThrow(/KEY of 'te test' is missing/);
    expect(() => expectPositionals('te test', ['a', 'b'], ['KEY'])).toThrow(/"b" .* one too many/);
  });

  it('sees --json in a command line that is wrong otherwise', () => {
    expect(asksForJson(['target', '--nonsense', '--json'])).toBe(true);
    expect(asksForJson(['--json=false'])).toBe(false);
    expect(asksForJson(['--', '--json'])).toBeUndefined();
  });
});
