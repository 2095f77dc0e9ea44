import type { Sql, TransactionSql } from 'postgres';

/** Runs in a transaction that is always rolled back. */
export async function rolledBack<Result>(sql: Sql, run: (tx: TransactionSql) => Promise<Result>): Promise<Result> {
  let result: { value: Result } | undefined;
  const rollback = new Error('rolled back on purpose');
  await sql
    .begin(async (tx) => {
      result = { value: await run(tx) };
      throw rollback;
    })
    .catch((error: unknown) => {
      if (error !== rollback) throw error;
    });
  return result!.value;
}
