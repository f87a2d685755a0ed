import type { TransportFactory } from '@transfer-engine/core/transport';
import { checkOptions, type TcpOptions } from './tcp-options.ts';
import { TcpTransport } from './tcp-transport.ts';

export type { TcpOptions } from './tcp-options.ts';

/**
 * TCP as a transport: moves bytes to and from every engine that speaks the TCP framing of
 * Mooncake's Transfer Engine, v1 and v2, in both roles.
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT` for an option outside its range
 */
export function tcp(options: TcpOptions = {}): TransportFactory {
  checkOptions(options);
  return { name: 'tcp', create: (host) => new TcpTransport(host, options) };
}
