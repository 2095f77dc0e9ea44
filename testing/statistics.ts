/** Several measurements of one thing. */
export interface Summary {
  median: number;
  minimum: number;
  maximum: number;
  values: readonly number[];
}

/** @throws {RangeError} when there are no values */
export function summarize(values: readonly number[]): Summary {
  return {
    median: median(values),
    minimum: Math.min(...values),
    maximum: Math.max(...values),
    values,
  };
}

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = sortedOf(values);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/**
 * The nearest-rank percentile: always a measured value. Of fewer than a hundred values, the 0.99 percentile is the largest.
 */
export function percentile(values: readonly number[], share: number): number {
  const sorted = sortedOf(values);
  return sorted[Math.max(Math.ceil(share * sorted.length) - 1, 0)]!;
}

/** The quotients of values of the same round. */
export function ratios(values: readonly number[], others: readonly number[]): number[] {
  return values.slice(0, others.length).map((value, round) => value / others[round]!);
}

function sortedOf(values: readonly number[]): number[] {
  if (values.length === 0) throw new RangeError('there are no values to summarize');
  return values.toSorted((one, other) => one - other);
}
