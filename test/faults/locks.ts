import type { Sql } from 'postgres';
import { holdLock } from '../support/locks.ts';

/**
 * Blocks writes of activity events until the returned function is called, or the test ends: a worker's transaction is
 * blocked halfway, after it has written a run.
 */
export const holdActivityLog = (sql: Sql) =>
  holdLock(sql, (connection) => connection`lock table lessor.activity_log in share mode`);
