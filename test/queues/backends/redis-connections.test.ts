import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { openQueues } from '../../../src/queues/queues.ts';
import type { QueueRole } from '../../../src/queues/backends/backend.ts';
import { Publisher } from '../../../src/queues/publisher.ts';
import { until } from '../../../testing/until.ts';
import { freePort, startRedisServer, startSentinel, whyNoRedisServer } from '../redis-server.ts';
import type { RedisServer } from '../redis-server.ts';

const run = promisify(execFile);

const unlessRunnable = whyNoRedisServer === undefined ? '' : ` (not run: ${whyNoRedisServer})`;

const USER = 'o:l@ga/?#';
const PASSWORD = 'p@ss:w/o?r#d%2F&=+';
const CREDENTIALS = `${encodeURIComponent(USER)}:${encodeURIComponent(PASSWORD)}`;

let directory: string;
const certificate = (name: string) => encodeURIComponent(join(directory, name));

async function makeCertificates(): Promise<void> {
  const openssl = (...args: string[]) => run('openssl', args, { cwd: directory });
  for (const name of ['authority', 'other']) {
    const files = ['-keyout', `${name}.key`, '-out', `${name}.crt`];
    await openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...files, '-subj', `/CN=${name}`, '-days', '2');
  }
  await writeFile(join(directory, 'names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  await openssl(
    'req',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    'redis.key',
    '-out',
    'redis.csr',
    '-subj',
    '/CN=redis',
  );
  const signer = ['-CA', 'authority.crt', '-CAkey', 'authority.key', '-CAcreateserial', '-extfile', 'names'];
  await openssl('x509', '-req', '-in', 'redis.csr', '-out', 'redis.crt', '-days', '2', ...signer);
}

/** Flags of a server that accepts encrypted connections on a second port. */
const tlsFlags = (tlsPort: number, authClients: 'yes' | 'no' = 'no') => ({
  'tls-port': String(tlsPort),
  'tls-cert-file': join(directory, 'redis.crt'),
  'tls-key-file': join(directory, 'redis.key'),
  'tls-ca-cert-file': join(directory, 'authority.crt'),
  'tls-auth-clients': authClients,
});

/** From now on only the user can sign in. The connection that sends this stays signed in. */
async function requireUser(server: RedisServer): Promise<void> {
  await server.call('ACL', 'SETUSER', USER, 'on', `>${PASSWORD}`, '~*', '&*', '+@all');
  await server.call('ACL', 'SETUSER', 'default', 'off');
}

async function startCluster(tlsPort: number): Promise<RedisServer> {
  const node = await startRedisServer(await freePort(), {
    ...tlsFlags(tlsPort),
    'tls-cluster': 'yes',
    'cluster-enabled': 'yes',
    'cluster-port': String(await freePort()),
    'cluster-announce-ip': '127.0.0.1',
  });
  await node.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
  await until(async () => String(await node.call('CLUSTER', 'INFO')).includes('cluster_state:ok'));
  return node;
}

/** Each starts a Redis and returns the URL of it. */
const URLS: [what: string, start: () => Promise<string>][] = [
  [
    'an IPv6 host',
    async () => {
      const server = await startRedisServer(await freePort());
      await server.call('CONFIG', 'SET', 'bind', '127.0.0.1 ::1');
      return `redis://[::1]:${server.port}`;
    },
  ],
  [
    'a user and a password with reserved characters, and a database',
    async () => {
      const server = await startRedisServer(await freePort());
      await requireUser(server);
      return `redis://${CREDENTIALS}@127.0.0.1:${server.port}/3`;
    },
  ],
  [
    'TLS with a CA of its own, by name',
    async () => {
      const port = await freePort();
      await startRedisServer(await freePort(), tlsFlags(port));
      return `rediss://localhost:${port}?cacert=${certificate('authority.crt')}`;
    },
  ],
  [
    'TLS with a client certificate',
    async () => {
      const port = await freePort();
      await startRedisServer(await freePort(), tlsFlags(port, 'yes'));
      const own = `cert=${certificate('redis.crt')}&key=${certificate('redis.key')}`;
      return `rediss://127.0.0.1:${port}?cacert=${certificate('authority.crt')}&${own}`;
    },
  ],
  [
    'a cluster',
    async () => {
      const node = await startCluster(await freePort());
      await requireUser(node);
      return `redis://${CREDENTIALS}@localhost:${node.port}?cluster=true&node=127.0.0.1:${node.port}`;
    },
  ],
  [
    'a cluster with TLS',
    async () => {
      const port = await freePort();
      await startCluster(port);
      return `rediss://localhost:${port}?cluster=true&cacert=${certificate('authority.crt')}`;
    },
  ],
  [
    'a sentinel with a password, and TLS for both',
    async () => {
      const [masterPort, sentinelPort] = [await freePort(), await freePort()];
      const master = await startRedisServer(await freePort(), tlsFlags(masterPort));
      const sentinel = await startSentinel(await freePort(), 'main', masterPort, {
        ...tlsFlags(sentinelPort),
        'tls-replication': 'yes',
      });
      await requireUser(master);
      await requireUser(sentinel);
      const access = `sentinel_user=${encodeURIComponent(USER)}&sentinel_password=${encodeURIComponent(PASSWORD)}`;
      const url = `rediss://${CREDENTIALS}@127.0.0.1:${sentinelPort}/2?sentinel=main`;
      return `${url}&${access}&cacert=${certificate('authority.crt')}`;
    },
  ],
  [
    'a sentinel with TLS, whose master has none',
    async () => {
      const sentinelPort = await freePort();
      const master = await startRedisServer(await freePort());
      await startSentinel(await freePort(), 'main', master.port, tlsFlags(sentinelPort));
      const tls = `sentinel_tls=true&sentinel_cacert=${certificate('authority.crt')}`;
      return `redis://127.0.0.1:${sentinelPort}?sentinel=main&${tls}`;
    },
  ],
];

describe.skipIf(whyNoRedisServer !== undefined)(`a Redis URL connects everything${unlessRunnable}`, () => {
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lessor-redis-tls-'));
    await makeCertificates();
  });

  afterAll(() => rm(directory, { recursive: true, force: true }));

  test.for(URLS)('%s: health check, publisher, listener and worker', async ([, start]) => {
    const url = await start();
    const open = (role: QueueRole) => {
      const queues = openQueues(url, { role, onError: () => undefined });
      onTestFinished(() => queues.close());
      return queues;
    };
    const consumer = open('consumer');
    await consumer.ping();
    expect(await consumer.durability()).toMatchObject({ known: true });

    const producer = open('producer');
    const events = producer.queueEvents('run-heartbeat');
    onTestFinished(() => events.close());
    await events.waitUntilReady();
    const completed = new Promise((resolve) => events.once('completed', ({ jobId }) => resolve(jobId)));
    const publisher = new Publisher(producer, 10_000);
    onTestFinished(() => publisher.close());
    await publisher.publish('run-heartbeat', 'it', { companyId: 'A' });

    const worker = consumer.worker('run-heartbeat', async () => 'done', {});
    onTestFinished(() => worker.close());
    expect(await completed).toBe('it');
  });

  test('a certificate of an unknown authority is not accepted', async () => {
    const port = await freePort();
    await startRedisServer(await freePort(), tlsFlags(port));
    for (const parameters of ['', `?cacert=${certificate('other.crt')}`]) {
      const queues = openQueues(`rediss://localhost:${port}${parameters}`, {
        role: 'producer',
        onError: () => undefined,
      });
      onTestFinished(() => queues.close());
      await expect(queues.ready(AbortSignal.timeout(5_000))).rejects.toThrow(/certificate/);
    }
  });
});
