/** Paragraphs, separated by empty lines; empty paragraphs are skipped. */
export function lines(paragraphs: readonly string[]): string {
  return paragraphs
    .filter((paragraph) => paragraph !== '')
    .map((paragraph) => paragraph.trimEnd())
    .join('\n\n')
    .concat('\n');
}

export function list(items: readonly string[]): string {
  return items.map((item) => `- ${item.replaceAll('\n', ' ')}`).join('\n');
}

/** A whole number. */
export function count(value: number): string {
  return Math.round(value).toLocaleString('en');
}

/** Several whole numbers. */
export function figures(values: readonly number[]): string {
  return values.map(count).join(' · ');
}

/** Milliseconds, with decimals below 100. */
export function milliseconds(value: number): string {
  return value >= 100 ? count(value) : value.toFixed(2);
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(1)}%`;
}
