import postgres from 'postgres';
import { expect, onTestFinished, test } from 'vitest';
import { startRestartablePostgres } from '../../testing/stores/postgres-server.ts';

/** Runs one statement on a new connection, as a restart closes all connections. */
async function query(url: string, text: string): Promise<unknown[]> {
  const sql = postgres(url, { max: 1 });
  try {
    return await sql.unsafe(text);
  } finally {
    await sql.end();
  }
}

test('a restartable Postgres keeps its URL and what was committed, also over an immediate stop, which is a crash', async () => {
  const server = await startRestartablePostgres({ settings: { max_connections: 20 } });
  onTestFinished(() => server.close());
  await query(server.url, 'create table kept as select 42 as answer');
  // Unlogged tables are emptied by recovery from a crash, and by nothing else.
  await query(server.url, 'create unlogged table lost as select 42 as answer');

  await server.stop('fast');
  await expect(query(server.url, 'select 1')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  await server.start();
  expect(await query(server.url, 'select answer from kept')).toHaveLength(1);
  expect(await query(server.url, 'select answer from lost')).toHaveLength(1);
  expect(await query(server.url, 'show max_connections')).toEqual([{ max_connections: '20' }]);

  await server.restart('immediate');
  expect(await query(server.url, 'select answer from kept')).toHaveLength(1);
  expect(await query(server.url, 'select answer from lost')).toHaveLength(0);
});
