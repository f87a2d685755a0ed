import { describe, expect, test } from 'vitest';
import { EngineError } from '../base/errors.ts';
import {
  decodeNotify,
  decodeNotifyReply,
  encodeNotify,
  encodeNotifyReply,
  encodeProbe,
  encodeProbeReply,
} from './notify-document.ts';
import { decodeRpcMeta, encodeRpcMeta } from './rpc-meta-document.ts';

function errorOf(action: () => unknown): EngineError {
  try {
    action();
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(EngineError);
    return thrown as EngineError;
  }
  throw new Error('nothing was thrown');
}

describe('notifications', () => {
  test('are written and read', () => {
    expect(encodeNotify({ name: 'agent1', message: 'hi' })).toBe(
      '{"name":"agent1","notify_msg":"hi"}',
    );
    expect(decodeNotify('{"name":"agent1","notify_msg":"hi"}')).toEqual({
      name: 'agent1',
      message: 'hi',
    });
    const odd = { name: '', message: '"日\u0000\n😀/' };
    expect(encodeNotify(odd)).toBe(
      '{"name":"","notify_msg":"\\"\\u65e5\\u0000\\n\\ud83d\\ude00/"}',
    );
    expect(decodeNotify(encodeNotify(odd))).toEqual(odd);
  });

  test('are accepted with a text, and refused with none', () => {
    expect(encodeNotifyReply()).toBe('{"name":"","notify_msg":"success"}');
    expect(decodeNotifyReply(encodeNotifyReply())).toEqual({ accepted: true, message: 'success' });
    expect(encodeNotifyReply(false)).toBe('{"name":"","notify_msg":""}');
    expect(decodeNotifyReply(encodeNotifyReply(false))).toEqual({ accepted: false, message: '' });
    expect(decodeNotifyReply('null')).toEqual({ accepted: false, message: '' });
  });

  test('may lack members', () => {
    expect(decodeNotify('null')).toEqual({ name: '', message: '' });
    expect(decodeNotify('{"name":5}')).toEqual({ name: '5', message: '' });
  });

  // The first two end the process of a C++ engine.
  test.each([
    ['[]', ''],
    ['{"name":{}}', 'name'],
    ['{"notify_msg":[]}', 'notify_msg'],
  ])('are rejected as %s', (text, member) => {
    const error = errorOf(() => decodeNotify(text));
    expect(error.code).toBe('ERR_TE_PROTOCOL');
    expect(error.details.member).toBe(member);
    expect(errorOf(() => decodeNotifyReply(text)).code).toBe('ERR_TE_PROTOCOL');
  });

  test.each([5, null, { a: 1 }])('are not written with %j for a text', (message) => {
    const wrong = { name: 'a', message } as unknown as { name: string; message: string };
    expect(errorOf(() => encodeNotify(wrong)).details.argument).toBe('message');
  });
});

test('probes ask and answer', () => {
  expect(encodeProbe()).toBe('{}');
  expect(encodeProbeReply()).toBe('{"status":"success"}');
});

describe('rpc_meta documents', () => {
  test('are written and read', () => {
    const document = { host: '10.0.0.7', rpcPort: 15_085 };
    expect(encodeRpcMeta(document)).toBe('{"ip_or_host_name":"10.0.0.7","rpc_port":15085}');
    expect(decodeRpcMeta(encodeRpcMeta(document))).toEqual(document);
    expect(decodeRpcMeta('{"ip_or_host_name":"a","rpc_port":1.0,"more":[]}\n')).toEqual({
      host: 'a',
      rpcPort: 1,
    });
  });

  test.each([
    ['null', 'ip_or_host_name'],
    ['{"ip_or_host_name":"","rpc_port":1}', 'ip_or_host_name'],
    ['{"ip_or_host_name":[],"rpc_port":1}', 'ip_or_host_name'],
    ['{"ip_or_host_name":"a","rpc_port":"1"}', 'rpc_port'],
    ['{"ip_or_host_name":"a","rpc_port":65536}', 'rpc_port'],
    ['{"ip_or_host_name":"a","rpc_port":-1}', 'rpc_port'],
  ])('are rejected as %s', (text, member) => {
    const error = errorOf(() => decodeRpcMeta(text));
    expect(error.code).toBe('ERR_TE_METADATA');
    expect(error.details.member).toBe(member);
  });

  test.each([
    ['host', { host: '', rpcPort: 1 }],
    ['rpcPort', { host: 'a', rpcPort: 65_536 }],
    ['rpcPort', { host: 'a', rpcPort: 0.5 }],
  ])('are not written with a wrong %s', (argument, document) => {
    const error = errorOf(() => encodeRpcMeta(document));
    expect(error.code).toBe('ERR_TE_INVALID_ARGUMENT');
    expect(error.details.argument).toBe(argument);
  });
});
