import { createMetadataServer } from '@transfer-engine/metadata/http-server';
import { canRun, startEtcd, startRedis } from './services.ts';

/** A store that tests can lose: the server of one of the five ways in which engines meet. */
export interface RunningMode {
  /** For `--metadata` and `openStore`. */
  readonly uri: string;
  /** Ends the server and starts it empty at the same address; `whileDown` runs in between. */
  restart(whileDown: () => Promise<void>): Promise<void>;
  stop(): Promise<void>;
}

export interface MetadataMode {
  readonly title: string;
  /** Whether the programs that it needs are here. */
  readonly runs: boolean;
  start(): Promise<RunningMode>;
}

async function startHttp(): Promise<RunningMode> {
  let server = await createMetadataServer({ port: 0, closeGraceMs: 20 });
  const { url, port } = server;
  return {
    uri: url,
    async restart(whileDown) {
      await server.close();
      await whileDown();
      server = await createMetadataServer({ port, closeGraceMs: 20 });
    },
    stop: () => server.close(),
  };
}

/** Every way but P2P, which has no store. */
export const storeModes: readonly MetadataMode[] = [
  { title: 'HTTP', runs: true, start: startHttp },
  ...['etcd', 'etcd+http'].map((scheme) => ({
    title: scheme,
    runs: canRun('etcd'),
    async start() {
      const service = await startEtcd();
      return {
        uri: `${scheme}://127.0.0.1:${service.port}`,
        restart: service.restart,
        stop: () => service.kill(),
      };
    },
  })),
  {
    title: 'redis',
    runs: canRun('redis-server'),
    async start() {
      const service = await startRedis('--notify-keyspace-events', 'KEA');
      return {
        uri: `redis://127.0.0.1:${service.port}`,
        restart: service.restart,
        stop: () => service.kill(),
      };
    },
  },
];
