import { sql } from 'drizzle-orm';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { withReadDatabase } from '../../src/commands/with-database.ts';
import { createWorker } from '../../src/consumers/worker.ts';
import { checkReadiness } from '../../src/api/health.ts';
import { createDb, queryRows } from '../../src/db/connection.ts';
import { listLeases } from '../../src/db/listings.ts';
import { migrate } from '../../src/db/migrate.ts';
import { withTimeout } from '../../src/lib/abort.ts';
import { OutboxListener } from '../../src/outbox/outbox-listener.ts';
import { migrateQueue } from '../../src/queues/backends/postgres.ts';
import { openQueues } from '../../src/queues/queues.ts';
import { programsOnPath } from '../support/requirements.ts';
import { DATABASE, PASSWORD, USER, startUrlServers, urlTo } from './url-servers.ts';
import type { UrlServers } from './url-servers.ts';

let servers: UrlServers;

const TIMEOUT_MS = 20_000;
const silent = pino({ level: 'silent' });

/** Everything that connects to Postgres. Each resolves once a connection was used, and rejects if it cannot be. */
const ENTRIES: Record<string, (url: string) => Promise<unknown>> = {
  async createDb(url) {
    const db = createDb(url);
    try {
      await db.transaction((tx) => tx.execute(sql`select 1`));
    } finally {
      await db.close();
    }
  },
  async worker(url) {
    const worker = createWorker({ databaseUrl: url, queueUrl: url, logger: silent });
    try {
      await withTimeout(TIMEOUT_MS, () => worker.start());
    } finally {
      await worker.close();
    }
  },
  async migrate(url) {
    await migrate(url);
    await migrateQueue(url);
  },
  listings: (url) => withReadDatabase(url, (db) => listLeases(db, { limit: 1 })),
  async health(url) {
    const readiness = await checkReadiness({ databaseUrl: url, queueUrl: url, timeoutMs: TIMEOUT_MS });
    if (readiness.status !== 'ready') throw new Error(JSON.stringify(readiness.reasons));
  },
  async 'outbox listener'(url) {
    let listener: OutboxListener | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const options = { databaseUrl: url, applicationName: 'test', onWritten: resolve, onError: reject };
        listener = new OutboxListener(options);
      });
    } finally {
      await listener?.close();
    }
  },
  async queue(url) {
    const queues = openQueues(url, { role: 'producer', onError: () => undefined });
    try {
      await queues.ping();
      const queue = queues.queue('run-started');
      try {
        await queue.getJobCounts();
      } finally {
        await queue.close();
      }
    } finally {
      await queues.close();
    }
  },
};

type Url = [what: string, url: () => string, encrypted: boolean];
type RejectedUrl = [what: string, url: () => string, reason: RegExp];

const at = (host: string, parameters = '') => urlTo(`${host}:${servers.port}`, parameters);
const inParameters = (host: string) =>
  Object.entries({ host, port: String(servers.port), user: USER, password: PASSWORD, dbname: DATABASE })
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
    .join('&');

/** Of an error and its causes: drizzle's own message is the statement. */
function messagesOf(error: unknown): string {
  return error instanceof Error ? `${error.message}\n${messagesOf(error.cause)}` : '';
}

// The servers' certificates are made with it.
const openssl = programsOnPath('openssl');

describe.runIf(openssl.isMet)(`a Postgres URL${openssl.note}`, () => {
  beforeAll(async () => {
    servers = await startUrlServers();
  });

  afterAll(() => servers.close());

  describe.for<Url>([
    ['an IPv4 address', () => at('127.0.0.1'), false],
    ['an IPv6 address', () => at('[::1]'), false],
    ['a host name', () => at('localhost'), false],
    ['a percent-encoded socket directory', () => at(encodeURIComponent(servers.socketDirectory)), false],
    ['everything in parameters', () => `postgres:///?${inParameters('127.0.0.1')}`, false],
    ['a socket directory in parameters', () => `postgres:///?${inParameters(servers.socketDirectory)}`, false],
    ['application_name and options', () => at('127.0.0.1', 'application_name=a%20b&options=-c%20geqo%3Doff'), false],
    ['sslmode=disable', () => at('127.0.0.1', 'sslmode=disable'), false],
    ['sslmode=no-verify', () => at('127.0.0.1', 'sslmode=no-verify'), true],
    ['sslmode=require', () => at('127.0.0.1', 'sslmode=require'), true],
    [
      'sslmode=require with sslrootcert',
      () => at('127.0.0.1', `sslmode=require&sslrootcert=${servers.authority}`),
      true,
    ],
    [
      'sslmode=verify-ca with sslrootcert',
      () => at('127.0.0.1', `sslmode=verify-ca&sslrootcert=${servers.authority}`),
      true,
    ],
    [
      'sslmode=verify-full with sslrootcert',
      () => at('localhost', `sslmode=verify-full&sslrootcert=${servers.authority}`),
      true,
    ],
    ['a first host that is down', () => urlTo(`127.0.0.1:${servers.closedPort},127.0.0.1:${servers.port}`), false],
    [
      'a first host that is read-only, with target_session_attrs=read-write',
      () => urlTo(`127.0.0.1:${servers.readOnlyPort},[::1]:${servers.port}`, 'target_session_attrs=read-write'),
      false,
    ],
    [
      'several hosts, verify-full and target_session_attrs=primary',
      () =>
        urlTo(
          `127.0.0.1:${servers.closedPort},localhost:${servers.port}`,
          `sslmode=verify-full&sslrootcert=${servers.authority}&target_session_attrs=primary`,
        ),
      true,
    ],
  ])('a database URL with %s', ([, url, encrypted]) => {
    test.for(Object.entries(ENTRIES))('works for: %s', async ([, connect]) => {
      servers.takeEncrypted();
      await connect(url());
      const connections = servers.takeEncrypted();
      expect(connections).not.toEqual([]);
      expect(new Set(connections)).toEqual(new Set([encrypted]));
    });
  });

  describe.for<RejectedUrl>([
    ['sslmode=prefer', () => at('127.0.0.1', 'sslmode=prefer'), /sslmode=prefer/],
    ['sslmode=verify-ca without sslrootcert', () => at('127.0.0.1', 'sslmode=verify-ca'), /needs sslrootcert/],
    ['a parameter that is not understood', () => at('127.0.0.1', 'connect_timeout=3'), /connect_timeout/],
    [
      'a certificate file that is missing',
      () => at('127.0.0.1', 'sslmode=require&sslrootcert=/no'),
      /sslrootcert.*ENOENT/,
    ],
    ['verify-full without sslrootcert', () => at('localhost', 'sslmode=verify-full'), /certificate/],
    [
      'another authority and verify-full',
      () => at('localhost', `sslmode=verify-full&sslrootcert=${servers.otherAuthority}`),
      /certificate/,
    ],
    [
      'another authority and verify-ca',
      () => at('localhost', `sslmode=verify-ca&sslrootcert=${servers.otherAuthority}`),
      /certificate/,
    ],
    [
      'another authority and require',
      () => at('localhost', `sslmode=require&sslrootcert=${servers.otherAuthority}`),
      /certificate/,
    ],
    [
      'an address that the certificate does not name and verify-full',
      () => at('127.0.0.1', `sslmode=verify-full&sslrootcert=${servers.authority}`),
      /127\.0\.0\.1/,
    ],
    [
      'sslmode=require to a server that does not encrypt',
      () => urlTo(`127.0.0.1:${servers.readOnlyPort}`, 'sslmode=require'),
      /SSL|ECONNRESET|socket|wrong version|Connection/,
    ],
    [
      'only read-only hosts and target_session_attrs=read-write',
      () => urlTo(`127.0.0.1:${servers.readOnlyPort}`, 'target_session_attrs=read-write'),
      /read-write/,
    ],
  ])('a database URL with %s', ([, url, reason]) => {
    test.for(Object.entries(ENTRIES))('is rejected by: %s', async ([, connect]) => {
      const error: unknown = await connect(url()).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(messagesOf(error)).toMatch(reason);
    });
  });

  test('application_name and options of a URL reach the session', async () => {
    const db = createDb(at('127.0.0.1', 'application_name=a%20b&options=-c%20geqo%3Doff'), {
      applicationName: 'other',
    });
    try {
      const settings = sql`select current_setting('application_name') as name, current_setting('geqo') as geqo`;
      expect(await queryRows(db, settings)).toEqual([{ name: 'a b', geqo: 'off' }]);
    } finally {
      await db.close();
    }
  });
});
