/**
 * Settles as `work` does, or rejects once `milliseconds` have passed. The signal then tells `work` that nobody waits
 * for it any more.
 */
export async function withinTime<Value>(
  milliseconds: number,
  work: (signal: AbortSignal) => Promise<Value>,
): Promise<Value> {
  const abandoned = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`no answer within ${milliseconds} ms`));
      abandoned.abort();
    }, milliseconds);
  });
  try {
    return await Promise.race([work(abandoned.signal), limit]);
  } finally {
    clearTimeout(timer);
  }
}
