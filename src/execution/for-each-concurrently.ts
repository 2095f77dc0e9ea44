/**
 * Does something with each item, a few at a time. After a failure or an abort no more are begun; it settles when those
 * under way have, with the first error.
 */
export async function forEachConcurrently<Item>(
  items: Iterable<Item> | AsyncIterable<Item>,
  { limit, signal }: { limit: number; signal: AbortSignal },
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const underWay = new Set<Promise<void>>();
  const errors: unknown[] = [];
  for await (const item of items) {
    if (signal.aborted || errors.length > 0) break;
    const begun = work(item)
      .catch((error: unknown) => void errors.push(error))
      .finally(() => underWay.delete(begun));
    underWay.add(begun);
    if (underWay.size >= limit) await Promise.race(underWay);
  }
  await Promise.all(underWay);
  if (errors.length > 0) throw errors[0];
  signal.throwIfAborted();
}
