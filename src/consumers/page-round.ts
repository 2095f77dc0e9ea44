/**
 * Goes round and round through rows in pages, each page behind the one before: the same little work every time, however
 * many rows there are. Past the last row it begins anew.
 */
export class PageRound<Row> {
  #last: Row | undefined;

  /** @param read reads at most `size` rows behind a row, or the first ones */
  async next(size: number, read: (limit: number, after?: Row) => Promise<Row[]>): Promise<Row[]> {
    const page = await read(size, this.#last);
    this.#last = page.length < size ? undefined : page.at(-1);
    return page;
  }

  /** Whether the next page is the first one again. */
  get isComplete(): boolean {
    return this.#last === undefined;
  }
}
