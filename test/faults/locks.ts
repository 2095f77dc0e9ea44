import type { Sql } from 'postgres';
import { onTestFinished } from 'vitest';

/**
 * Keeps everybody from telling an event: a worker's transaction has then written a run and wants to make its lease.
 * Until the returned function is called, or the test ends.
 */
export async function holdActivityLog(sql: Sql): Promise<() => Promise<void>> {
  const connection = await sql.reserve();
  await connection`begin`;
  await connection`lock table lessor.activity_log in share mode`;
  let held = true;
  const release = async () => {
    if (!held) return;
    held = false;
    await connection`rollback`;
    connection.release();
  };
  onTestFinished(release);
  return release;
}
