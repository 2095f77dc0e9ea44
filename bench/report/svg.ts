/** Elements that all charts share. */

export const FONT = 'system-ui, sans-serif';
export const INK = '#24292f';
export const FAINT = '#d0d7de';
export const COLORS = ['#0969da', '#bf8700', '#cf222e', '#1a7f37'] as const;

/** An element with escaped attributes; its content is not escaped. */
export function element(
  name: string,
  attributes: Readonly<Record<string, string | number>>,
  content: string | readonly string[] = [],
): string {
  const written = Object.entries(attributes).map(([key, value]) => ` ${key}="${escapeText(format(value))}"`);
  const inside = typeof content === 'string' ? content : content.join('');
  return `<${name}${written.join('')}>${inside}</${name}>`;
}

/** A line of text. */
export function text(x: number, y: number, words: string, attributes: Record<string, string | number> = {}): string {
  return element('text', { x, y, fill: INK, 'font-size': 12, ...attributes }, escapeText(words));
}

/** A picture on a white background, readable on any page. */
export function picture(width: number, height: number, title: string, content: readonly string[]): string {
  const attributes = {
    xmlns: 'http://www.w3.org/2000/svg',
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    role: 'img',
    'font-family': FONT,
  };
  return `${element('svg', attributes, [
    element('title', {}, escapeText(title)),
    element('rect', { width, height, fill: '#ffffff' }),
    text(12, 24, title, { 'font-size': 15, 'font-weight': 600 }),
    ...content,
  ])}\n`;
}

/** Names of colours, from left to right. */
export function legend(names: readonly string[], x: number, y: number): string[] {
  let left = x;
  return names.flatMap((name, position) => {
    const at = left;
    left += 28 + name.length * 7;
    return [
      element('rect', { x: at, y: y - 9, width: 10, height: 10, fill: COLORS[position % COLORS.length]! }),
      text(at + 15, y, name),
    ];
  });
}

/** Round numbers from zero up to the first that reaches the largest value: four to ten steps of 1, 2 or 5. */
export function ticks(largest: number): number[] {
  if (!(largest > 0)) return [0, 1];
  const rough = largest / 5;
  const magnitude = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * magnitude).find((size) => size >= rough)!;
  const count = Math.ceil(largest / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, number) => number * step);
}

/** A number with three significant digits. */
export function shorten(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString('en');
  return String(Number(value.toPrecision(3)));
}

function format(value: string | number): string {
  return typeof value === 'number' ? String(Math.round(value * 100) / 100) : value;
}

function escapeText(words: string): string {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
