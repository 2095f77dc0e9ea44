/** All interleavings of several lists, each of which keeps its order. */
export function interleavings<T>(lists: readonly (readonly T[])[]): T[][] {
  if (lists.every((list) => list.length === 0)) return [[]];
  return lists.flatMap(([first, ...rest], position) =>
    first === undefined ? [] : interleavings(lists.with(position, rest)).map((after) => [first, ...after]),
  );
}

/** All subsets of the items, in their order. */
export function subsets<T>(items: readonly T[]): T[][] {
  return items.reduce<T[][]>((sets, item) => sets.concat(sets.map((set) => [...set, item])), [[]]);
}
