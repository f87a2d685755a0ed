import { invalidArgument } from '@transfer-engine/core/metadata';
import { withoutCredentials } from '../connection-string.ts';

/** What both drivers of etcd take. */
export interface EtcdStoreOptions {
  /** Time for one call as a whole, in milliseconds, unless the call says. Default 5,000, as in C++. */
  readonly timeoutMs?: number;
  /** Credentials of an etcd user; those of the URI come first. */
  readonly username?: string;
  readonly password?: string;
  /** PEM texts. A certificate authority alone makes the connection a TLS one, too. */
  readonly tls?: EtcdTls;
}

export interface EtcdTls {
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
}

export interface EtcdEndpoints {
  /** "host:port", with brackets around IPv6 addresses. */
  readonly hosts: readonly string[];
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** Without credentials: "etcd://a:2379,b:2379". */
  readonly description: string;
}

/** Port of etcd for clients. */
const DEFAULT_PORT = 2379;

/**
 * Reads the endpoints of an etcd cluster: "a:2379,b:2379", also separated by ";", with blanks
 * around. Credentials may stand before the first. Source: Mooncake 3b5a594,
 * mooncake-common/etcd/etcd_wrapper.go (NewEtcdClient).
 *
 * @throws EngineError `ERR_TE_INVALID_ARGUMENT`
 */
export function parseEtcdEndpoints(
  scheme: string,
  target: string,
  options: EtcdStoreOptions,
): EtcdEndpoints {
  const at = target.lastIndexOf('@');
  const [username, password] = at < 0 ? [] : credentialsOf(target.slice(0, at));
  const hosts = target
    .slice(at + 1)
    .replace(/\/+$/, '')
    .split(/[,;]/)
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map(toHost);
  if (hosts.length === 0 || hosts.some((host) => host === undefined)) {
    throw invalidArgument(
      'metadata URI',
      withoutCredentials(`${scheme}://${target}`),
      `${scheme}://host:port, or several endpoints separated by commas`,
    );
  }
  return {
    hosts: hosts as string[],
    username: username ?? options.username,
    password: password ?? options.password,
    description: `${scheme}://${hosts.join(',')}`,
  };
}

function credentialsOf(text: string): [string, string] {
  const colon = text.indexOf(':');
  const [name, password] = colon < 0 ? [text, ''] : [text.slice(0, colon), text.slice(colon + 1)];
  return [decoded(name), decoded(password)];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function toHost(text: string): string | undefined {
  const url = `http://${text}`;
  if (/[/?#@\s]/.test(text) || !URL.canParse(url)) return undefined;
  const { hostname, port } = new URL(url);
  // A URL leaves out the default port of its scheme.
  return `${hostname}:${port === '' ? (/:80$/.test(text) ? 80 : DEFAULT_PORT) : port}`;
}
