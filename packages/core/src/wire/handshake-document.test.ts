import { describe, expect, test } from 'vitest';
import { EngineError } from '../base/errors.ts';
import {
  decodeHandshake,
  emptyHandshake,
  encodeHandshake,
  formatNicPath,
  parseNicPath,
  type HandshakeDocument,
} from './handshake-document.ts';

const request: HandshakeDocument = {
  ...emptyHandshake(),
  localNicPath: '10.0.0.7:15001@mlx5_0',
  localLid: 7,
  localGid: '00:00:00:00:00:00:00:00:00:00:ff:ff:0a:00:00:07',
  peerNicPath: '10.0.0.8:15002@mlx5_1',
  queuePairs: [101, 0xffff_ffff],
  readyAck: false,
};

function errorOf(action: () => unknown): EngineError {
  try {
    action();
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(EngineError);
    return thrown as EngineError;
  }
  throw new Error('nothing was thrown');
}

describe('handshake document', () => {
  test('of RDMA has all members of the default build and the capability', () => {
    const text = encodeHandshake(request);
    expect(text).toBe(
      '{"local_gid":"00:00:00:00:00:00:00:00:00:00:ff:ff:0a:00:00:07","local_lid":7,' +
        '"local_nic_path":"10.0.0.7:15001@mlx5_0","payload":"",' +
        '"peer_nic_path":"10.0.0.8:15002@mlx5_1","qp_num":[101,4294967295],' +
        '"ready_ack":false,"reply_msg":""}',
    );
    expect(decodeHandshake(text)).toEqual(request);
  });

  test('of an engine with TCP alone is empty and has no capability', () => {
    expect(encodeHandshake(emptyHandshake())).toBe(
      '{"local_gid":"","local_lid":0,"local_nic_path":"","payload":"","peer_nic_path":"",' +
        '"qp_num":[],"reply_msg":""}',
    );
  });

  test('of other builds keeps their members', () => {
    const efa = { ...emptyHandshake(), efaAddress: 'fe80', payload: 'opaque' };
    expect(encodeHandshake(efa)).toContain('{"efa_addr":"fe80","local_gid":"",');
    const all = { ...efa, readyAck: true, cxiAddress: '01', barexPort: 1, jettyNumbers: [1, 2] };
    expect(decodeHandshake(encodeHandshake(all))).toEqual(all);
  });

  test.each<[string, Partial<HandshakeDocument>]>([
    ['null', {}],
    ['{}', {}],
    ['{"qp_num":5}', {}],
    ['{"qp_num":[1.0,null,true]}', { queuePairs: [1, 0, 1] }],
    ['{"local_lid":"x","local_gid":5}', {}],
    ['{"local_lid":-1}', {}],
    ['{"local_lid":65536}', {}],
    ['{"local_lid":65535.0}', { localLid: 65_535 }],
    ['{"local_nic_path":1,"reply_msg":false}', { localNicPath: '1', replyMessage: 'false' }],
    ['{"ready_ack":null}', { readyAck: false }],
    ['{"ready_ack":1}', { readyAck: false }],
    ['{"ready_ack":true}', { readyAck: true }],
    ['{"efa_addr":[],"cxi_addr":1,"barex_port":"x","jetty_num":{}}', {}],
    ['{"unknown":{"a":[1]}}', {}],
  ])('reads %s', (text, members) => {
    expect(decodeHandshake(text)).toEqual({ ...emptyHandshake(), ...members });
  });

  // The first four end the process of a C++ engine.
  test.each([
    ['[1]', ''],
    ['{"qp_num":["x"]}', 'qp_num[0]'],
    ['{"qp_num":[-1]}', 'qp_num[0]'],
    ['{"local_nic_path":[1]}', 'local_nic_path'],
    ['{"qp_num":[0,4294967296]}', 'qp_num[1]'],
    ['{"payload":{}}', 'payload'],
    ['{"reply_msg":[]}', 'reply_msg'],
    ['{"jetty_num":[{}]}', 'jetty_num[0]'],
    ['5', ''],
  ])('rejects %s', (text, member) => {
    const error = errorOf(() => decodeHandshake(text));
    expect(error.code).toBe('ERR_TE_PROTOCOL');
    expect(error.details.member).toBe(member);
  });

  test('rejects what is no JSON', () => {
    expect(errorOf(() => decodeHandshake('')).code).toBe('ERR_TE_MALFORMED_JSON');
  });

  test.each<[string, Partial<HandshakeDocument>]>([
    ['localLid', { localLid: -1 }],
    ['localLid', { localLid: 65_536 }],
    ['queuePairs[1]', { queuePairs: [1, 2 ** 32] }],
    ['queuePairs[0]', { queuePairs: [1.5] }],
    ['barexPort', { barexPort: 65_536 }],
    ['jettyNumbers[0]', { jettyNumbers: [-1] }],
  ])('is not written with a wrong %s', (argument, members) => {
    const error = errorOf(() => encodeHandshake({ ...request, ...members }));
    expect(error.code).toBe('ERR_TE_INVALID_ARGUMENT');
    expect(error.details.argument).toBe(argument);
  });

  test('is not written with a text that is none', () => {
    const wrong = { ...request, replyMessage: ['no'] } as unknown as HandshakeDocument;
    expect(errorOf(() => encodeHandshake(wrong)).details.argument).toBe('replyMessage');
  });
});

describe('NIC paths', () => {
  test.each([
    ['10.0.0.7:15001@mlx5_0', { server: '10.0.0.7:15001', device: 'mlx5_0' }],
    ['[::1]:1@a@b', { server: '[::1]:1', device: 'a@b' }],
    ['@', { server: '', device: '' }],
    ['none', undefined],
    ['', undefined],
  ])('%s', (text, path) => {
    expect(parseNicPath(text)).toEqual(path);
    if (path !== undefined) expect(formatNicPath(path.server, path.device)).toBe(text);
  });
});
