import type { Sql } from 'postgres';
import { holdLock } from '../support/locks.ts';

/**
 * Keeps everybody from telling an event: a worker's transaction has then written a run and wants to make its lease.
 * Until the returned function is called, or the test ends.
 */
export const holdActivityLog = (sql: Sql) =>
  holdLock(sql, (connection) => connection`lock table lessor.activity_log in share mode`);
