import { describe, expect, test } from 'vitest';
import { metadataKeys, stripLeadingSlashes } from './metadata-keys.ts';

describe('metadataKeys', () => {
  test.each([
    [undefined, 'mooncake/'],
    ['', 'mooncake/'],
    ['blue', 'mooncake/blue/'],
    ['blue/', 'mooncake/blue/'],
    ['eu/blue', 'mooncake/eu/blue/'],
  ])('with cluster %j start with %s', (clusterId, prefix) => {
    const keys = metadataKeys(clusterId);
    expect(keys.segment('10.0.0.7:12345')).toBe(`${prefix}ram/10.0.0.7:12345`);
    expect(keys.segment('nvmeof/file1')).toBe(`${prefix}nvmeof/file1`);
    expect(keys.segment('')).toBe(`${prefix}ram/`);
    expect(keys.rpcMeta('10.0.0.7:12345')).toBe(`${prefix}rpc_meta/10.0.0.7:12345`);
    expect(keys.rpcMeta('a/b')).toBe(`${prefix}rpc_meta/a/b`);
  });
});

test.each([
  ['name', 'name'],
  ['/name', 'name'],
  ['///nvmeof/file1', 'nvmeof/file1'],
  ['a//b/', 'a//b/'],
  ['//', ''],
])('stripLeadingSlashes turns %j into %j', (name, stripped) => {
  expect(stripLeadingSlashes(name)).toBe(stripped);
});
