import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatHostPort, isIpv6Literal, parseServerName } from './server-name.ts';

const DEFAULT_PORT = 12_001;

describe('parseServerName', () => {
  test.each([
    ['10.0.0.7:15001', '10.0.0.7', 15_001],
    ['node1:1', 'node1', 1],
    ['node1:0', 'node1', 0],
    ['node1:65535', 'node1', 65_535],
    ['node1:00080', 'node1', 80],
    ['[::1]:8080', '::1', 8080],
    ['[fe80::1%eth0]:12345', 'fe80::1%eth0', 12_345],
    ['fe80::1%eth0:12345', 'fe80::1%eth0', 12_345],
    ['a:b:7', 'a:b', 7],
    [':7', '', 7],
    ['[host]:7', '[host]', 7],
  ])('finds the port of %s', (text, host, port) => {
    expect(parseServerName(text, DEFAULT_PORT)).toEqual({ host, port, explicitPort: true });
  });

  test.each([
    ['node1', 'node1'],
    ['', ''],
    ['[::1]', '::1'],
    ['[2001:db8::7%1]', '2001:db8::7%1'],
    ['::1', '::1'],
    ['2001:db8:0:0:0:0:0:7', '2001:db8:0:0:0:0:0:7'],
    ['fe80::1%eth0', 'fe80::1%eth0'],
    ['::ffff:10.0.0.7', '::ffff:10.0.0.7'],
  ])('takes the default port for %s', (text, host) => {
    const expected = { host, port: DEFAULT_PORT, explicitPort: false };
    expect(parseServerName(text, DEFAULT_PORT)).toEqual(expected);
  });

  test.each([
    ['1.2.3.4:111111', '1.2.3.4', '111111'],
    ['1.2.3.4:65536', '1.2.3.4', '65536'],
    ['node1:', 'node1', ''],
    ['node1:80x', 'node1', '80x'],
    ['node1: 80', 'node1', ' 80'],
    ['node1:-1', 'node1', '-1'],
    ['node1:+1', 'node1', '+1'],
    ['node1:1e3', 'node1', '1e3'],
    ['[::1]:http', '::1', 'http'],
    ['[::1]:', '::1', ''],
  ])('ignores what is no port in %s', (text, host, ignoredPort) => {
    const expected = { host, port: DEFAULT_PORT, explicitPort: false, ignoredPort };
    expect(parseServerName(text, DEFAULT_PORT)).toEqual(expected);
  });

  test('undoes formatHostPort', () => {
    const host = fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6());
    fc.assert(
      fc.property(host, fc.nat(65_535), (name, port) => {
        const text = formatHostPort(name, port);
        expect(parseServerName(text, DEFAULT_PORT)).toEqual({
          host: name,
          port,
          explicitPort: true,
        });
      }),
      { numRuns: 10_000 },
    );
  });

  test('never fails, and never invents text', () => {
    const text = fc.string({ unit: fc.constantFrom(...'[]:%.0159afx \n') });
    fc.assert(
      fc.property(text, (name) => {
        const { host, port, ignoredPort = '' } = parseServerName(name, DEFAULT_PORT);
        expect(name).toContain(host);
        expect(name).toContain(ignoredPort);
        expect(Number.isInteger(port) && port >= 0 && port <= 65_535).toBe(true);
      }),
      { numRuns: 10_000 },
    );
  });
});

describe('isIpv6Literal', () => {
  test.each([
    '::',
    '::1',
    '1::',
    '1:2:3:4:5:6:7:8',
    'A:b::F',
    '1:2:3:4:5:6:7::',
    '::2:3:4:5:6:7:8',
    '::ffff:192.168.0.1',
    '1:2:3:4:5:6:10.0.0.1',
    'fe80::1%eth0',
    'fe80::1%2',
  ])('accepts %s', (text) => {
    expect(isIpv6Literal(text)).toBe(true);
  });

  test.each([
    '',
    ':',
    ':::',
    '1',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '1::2::3',
    '12345::',
    'g::',
    '::1.2.3',
    '::1.2.3.256',
    '::01.2.3.4',
    '1.2.3.4::',
    '1:2:3:4:5:6:7:1.2.3.4',
    ':1:2:3:4:5:6:7:8',
    '10.0.0.7',
    'fe80::1%',
    'fe80::1%a:1',
    '[::1]',
    '::1 ',
  ])('rejects %j', (text) => {
    expect(isIpv6Literal(text)).toBe(false);
  });

  test('accepts every address in every notation', () => {
    fc.assert(
      fc.property(fc.ipV6(), (address) => isIpv6Literal(address)),
      { numRuns: 10_000 },
    );
  });
});

test('formatHostPort puts brackets around IPv6 alone', () => {
  expect(formatHostPort('::1', 80)).toBe('[::1]:80');
  expect(formatHostPort('fe80::1%eth0', 80)).toBe('[fe80::1%eth0]:80');
  expect(formatHostPort('10.0.0.7', 80)).toBe('10.0.0.7:80');
  expect(formatHostPort('node1', 80)).toBe('node1:80');
});
