/** All ways to take items from several lists, those of each list in its order. */
export function interleavings<T>(lists: readonly (readonly T[])[]): T[][] {
  if (lists.every((list) => list.length === 0)) return [[]];
  return lists.flatMap(([first, ...rest], position) =>
    first === undefined ? [] : interleavings(lists.with(position, rest)).map((after) => [first, ...after]),
  );
}

/** All selections from some items, nothing and everything included. */
export function subsets<T>(items: readonly T[]): T[][] {
  return items.reduce<T[][]>((sets, item) => sets.concat(sets.map((set) => [...set, item])), [[]]);
}
