import { Client } from 'pg';

/** Loaded before a worker: its process dies at once of any transaction that has to do with the run `CRASH_ON_RUN`. */
const runId = process.env['CRASH_ON_RUN'];
if (runId === undefined || runId === '') throw new Error('CRASH_ON_RUN must be the id of a run');

type Query = (this: Client, statement: { text?: string } | string, ...rest: unknown[]) => unknown;
const prototype = Client.prototype as unknown as { query: Query };
const query = prototype.query;

prototype.query = function crashOrQuery(statement, ...rest) {
  const text = typeof statement === 'string' ? statement : (statement.text ?? '');
  const isPoisoned = text.includes('lessor.') && JSON.stringify([statement, rest[0]]).includes(runId);
  if (isPoisoned) process.kill(process.pid, 'SIGKILL');
  return query.call(this, statement, ...rest);
};
