import { describe, expect, inject, onTestFinished, test } from 'vitest';
import {
  createEmptyDatabase,
  dropDatabase,
  onDatabase,
  uniqueDatabaseName,
  urlOfDatabase,
} from '../../testing/stores/databases.ts';
import { lessor } from './lessor.ts';

const { postgres: server } = inject('stores');

/** Nothing listens there. */
const NO_REDIS = 'redis://127.0.0.1:1';

describe('`lessor migrate`', () => {
  test('creates the tables in an empty database, and changes nothing the second time', async () => {
    const url = await makeDatabase();
    const env = { DATABASE_URL: url, QUEUE_URL: NO_REDIS };
    const success = { exit: 0, stdout: 'Lessor’s tables are up to date.\n', stderr: '' };

    expect(await lessor(['migrate'], { env })).toEqual(success);
    expect(await schemasOf(url)).toEqual(['lessor']);
    expect(await lessor(['leases', '--json'], { env })).toEqual({ exit: 0, stdout: '[]\n', stderr: '' });
    expect(await lessor(['migrate'], { env })).toEqual(success);
  });

  test('needs no queue URL', async () => {
    const url = await makeDatabase();
    expect(await lessor(['migrate', '--database-url', url])).toMatchObject({ exit: 0, stderr: '' });
    expect(await schemasOf(url)).toEqual(['lessor']);
  });

  test('creates the tables of BullMQ too when the queue is in Postgres, and changes nothing the second time', async () => {
    const url = await makeDatabase();
    const env = { DATABASE_URL: url, QUEUE_URL: url };
    const success = {
      exit: 0,
      stdout: 'Lessor’s tables are up to date.\nBullMQ’s tables are up to date.\n',
      stderr: '',
    };

    expect(await lessor(['migrate'], { env })).toEqual(success);
    expect(await schemasOf(url)).toEqual(['bullmq', 'lessor']);
    expect(await lessor(['migrate'], { env })).toEqual(success);
  });

  test('creates each set of tables in the database of its URL', async () => {
    const [tables, queues] = [await makeDatabase(), await makeDatabase()];
    const args = ['migrate', '--database-url', tables, '--queue-url', queues];
    expect(await lessor(args)).toMatchObject({ exit: 0, stderr: '' });
    expect(await schemasOf(tables)).toEqual(['lessor']);
    expect(await schemasOf(queues)).toEqual(['bullmq']);
  });

  test('reports an unreachable database in one line, without the password', async () => {
    const url = 'postgres://lessor:hunter2@127.0.0.1:1/nothing';
    const { exit, stdout, stderr } = await lessor(['migrate', '--database-url', url]);
    expect({ exit, stdout }).toEqual({ exit: 1, stdout: '' });
    expect(stderr).toMatch(/^error: [^\n]*ECONNREFUSED[^\n]*\n$/);
    expect(stderr).not.toContain('hunter2');
  });
});

describe('a worker without its tables exits with 1 and advises `lessor migrate`', () => {
  const ADVICE = /^error: [^\n]*`lessor migrate`[^\n]*\n$/;

  test('with queues on Postgres', async () => {
    const url = await makeDatabase();
    const env = { DATABASE_URL: url, QUEUE_URL: url, LOG_LEVEL: 'silent' };
    const { exit, stdout, stderr } = await lessor(['worker'], { env });
    expect({ exit, stdout }).toEqual({ exit: 1, stdout: '' });
    expect(stderr).toMatch(ADVICE);
  });

  test('with queues on Redis', async () => {
    const env = { DATABASE_URL: await makeDatabase(), QUEUE_URL: NO_REDIS, LOG_LEVEL: 'silent' };
    const { exit, stderr } = await lessor(['worker'], { env });
    expect(exit).toBe(1);
    expect(stderr).toMatch(ADVICE);
  });

  test('when only the tables of BullMQ are missing', async () => {
    const url = await makeDatabase();
    await lessor(['migrate', '--database-url', url]);
    const { exit, stderr } = await lessor(['worker'], {
      env: { DATABASE_URL: url, QUEUE_URL: url, LOG_LEVEL: 'silent' },
    });
    expect(exit).toBe(1);
    expect(stderr).toMatch(ADVICE);
  });
});

/** An empty database, gone after the test. */
async function makeDatabase(): Promise<string> {
  const name = uniqueDatabaseName('test_commands_migrate');
  await createEmptyDatabase(server.url, name);
  onTestFinished(() => dropDatabase(server.url, name));
  return urlOfDatabase(server.url, name);
}

async function schemasOf(url: string): Promise<string[]> {
  return onDatabase(url, async (sql) => {
    const schemas = await sql<{ name: string }[]>`
      select nspname as name from pg_namespace where nspname in ('bullmq', 'lessor') order by nspname`;
    return schemas.map(({ name }) => name);
  });
}
