import { afterAll, beforeAll, describe, onTestFinished } from 'vitest';
import postgres from 'postgres';
import type { Sql } from 'postgres';
import { migrate } from '../../src/db/migrate.ts';
import { migrateQueue } from '../../src/queues/backends/postgres.ts';
import type { QueueName } from '../../src/queues/job-options.ts';
import { openQueues } from '../../src/queues/queues.ts';
import type { LessorQueue } from '../../src/queues/queues.ts';
import type { ProcessStores } from '../consumers/processes.ts';
import { whyNoRedisServer } from '../../testing/stores/redis-server.ts';
import { startRestartablePostgres } from '../../testing/stores/postgres-server.ts';
import type { RestartablePostgres } from '../../testing/stores/postgres-server.ts';
import { startRestartableRedis } from '../../testing/stores/redis-server.ts';
import type { RestartableRedis } from '../../testing/stores/redis-server.ts';

/** A migrated Postgres of a suite's own, which can be restarted. Available within hooks and tests. */
export function useOwnPostgres(): { readonly server: RestartablePostgres; readonly sql: Sql } {
  let opened: { server: RestartablePostgres; sql: Sql } | undefined;
  beforeAll(async () => {
    const server = await startRestartablePostgres();
    opened = { server, sql: postgres(server.url, { max: 2, onnotice: () => undefined }) };
    await migrate(server.url);
    await migrateQueue(server.url);
  });
  afterAll(async () => {
    await opened?.sql.end({ timeout: 1 });
    await opened?.server.close();
  });
  return {
    get server() {
      return opened!.server;
    },
    get sql() {
      return opened!.sql;
    },
  };
}

/** Runs a suite with a Redis of its own, which can be restarted. Skipped where none can be started, but never in CI. */
export function describeOnOwnRedis(name: string, suite: (redis: { readonly server: RestartableRedis }) => void): void {
  if (whyNoRedisServer !== undefined && process.env['CI'] === 'true') {
    throw new Error(`the fault suite needs a Redis of its own in CI: ${whyNoRedisServer}`);
  }
  const reason = whyNoRedisServer === undefined ? '' : ` (not run: ${whyNoRedisServer})`;
  describe.skipIf(whyNoRedisServer !== undefined)(`${name}${reason}`, () => {
    let server: RestartableRedis | undefined;
    beforeAll(async () => {
      server = await startRestartableRedis();
    });
    afterAll(() => server?.close());
    suite({
      get server() {
        return server!;
      },
    });
  });
}

/** Queues of stores that are known only within a test, closed after it. */
export function openQueuesOf({ queueUrl, prefix }: Omit<ProcessStores, 'database'>): (name: QueueName) => LessorQueue {
  const queues = openQueues(queueUrl, { role: 'consumer', prefix, onError: () => undefined });
  onTestFinished(() => queues.close());
  const opened = new Map<QueueName, LessorQueue>();
  return (name) => {
    const queue = opened.get(name) ?? queues.queue(name);
    if (!opened.has(name)) onTestFinished(() => queue.close());
    opened.set(name, queue);
    return queue;
  };
}
