import { kindOfSqlError } from '../db/sql-errors.ts';

/** What became of a page of rows. */
export interface PageResult {
  done: number;
  failed: number;
}

/** Work on rows, in a transaction of its own. */
export interface PageWork {
  /** @returns how many of the rows it was done to */
  on(ids: readonly string[]): Promise<number>;
  /** Told of each row that it cannot be done to. */
  onFailed(id: string, error: unknown): void;
}

/**
 * Does work to a page of rows at once, or, when that is refused because of one of them, one by one, so that it does not
 * stop the rest (isolated). Rejects only while Postgres is away.
 */
export async function workOnPage(ids: readonly string[], work: PageWork): Promise<PageResult> {
  if (ids.length === 0) return { done: 0, failed: 0 };
  try {
    return { done: await work.on(ids), failed: 0 };
  } catch (error) {
    if (kindOfSqlError(error) === 'unreachable') throw error;
    if (ids.length === 1) {
      work.onFailed(ids[0]!, error);
      return { done: 0, failed: 1 };
    }
  }
  const total = { done: 0, failed: 0 };
  for (const id of ids) {
    const result = await workOnPage([id], work);
    total.done += result.done;
    total.failed += result.failed;
  }
  return total;
}
