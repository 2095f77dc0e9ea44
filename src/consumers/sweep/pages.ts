import { kindOfSqlError } from '../../db/sql-errors.ts';

/** How many rows of a page were handled, and how many could not be. */
export interface PageResult {
  done: number;
  failed: number;
}

/** What is done to rows, in one transaction a call. */
export interface PageWork {
  /** @returns how many of the rows it changed */
  apply(ids: readonly string[]): Promise<number>;
  /** Called for each row that cannot be changed. */
  onFailed(id: string, error: unknown): void;
}

/**
 * Applies work to a page of rows, or to each row separately when Postgres rejects the page, so that an offending row
 * does not stop its neighbours (isolated). Rejects only while Postgres is unreachable.
 */
export async function processPage(ids: readonly string[], work: PageWork): Promise<PageResult> {
  if (ids.length === 0) return { done: 0, failed: 0 };
  try {
    return { done: await work.apply(ids), failed: 0 };
  } catch (error) {
    if (kindOfSqlError(error) === 'unreachable') throw error;
    if (ids.length === 1) {
      work.onFailed(ids[0]!, error);
      return { done: 0, failed: 1 };
    }
  }
  const total = { done: 0, failed: 0 };
  for (const id of ids) {
    const result = await processPage([id], work);
    total.done += result.done;
    total.failed += result.failed;
  }
  return total;
}

/**
 * A keyset cursor that starts again after the last row: each page costs the same, however many rows there are, and every
 * row is visited once a rotation.
 */
export class RotatingCursor<Row> {
  #last: Row | undefined;

  /** @param read reads at most `limit` rows after a row, or the first ones */
  async next(limit: number, read: (limit: number, after?: Row) => Promise<Row[]>): Promise<Row[]> {
    const page = await read(limit, this.#last);
    this.#last = page.length < limit ? undefined : page.at(-1);
    return page;
  }

  /** Whether the next page is the first one. */
  get isAtStart(): boolean {
    return this.#last === undefined;
  }
}
