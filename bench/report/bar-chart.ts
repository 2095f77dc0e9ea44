import { COLORS, FAINT, INK, element, legend, picture, shorten, text, ticks } from './svg.ts';

export interface Bar {
  label: string;
  /** Stacked values, each in its own colour. */
  parts: readonly number[];
  /** The index of the first part's colour; default 0. */
  color?: number;
  /** Single measurements, shown as dots. */
  points?: readonly number[];
}

export interface BarChart {
  title: string;
  /** The unit of the axis. */
  unit: string;
  bars: readonly Bar[];
  /** The meaning of the colours. */
  legend?: readonly string[];
}

const WIDTH = 760;
const LEFT = 220;
const RIGHT = 80;
const TOP = 44;
const ROW = 30;
const BAR = 18;
const BOTTOM = 44;

/** Draws horizontal bars, labelled with their sums, and single measurements as dots. */
export function drawBars({ title, unit, bars, legend: names = [] }: BarChart): string {
  const top = TOP + (names.length > 0 ? 22 : 0);
  const bottom = top + bars.length * ROW;
  const largest = Math.max(0, ...bars.flatMap(({ parts, points = [] }) => [sum(parts), ...points]));
  const axis = ticks(largest);
  const scale = (value: number) => LEFT + (value / axis.at(-1)!) * (WIDTH - LEFT - RIGHT);
  return picture(WIDTH, bottom + BOTTOM, title, [
    ...legend(names, LEFT, TOP),
    ...axis.flatMap((tick) => [
      element('line', { x1: scale(tick), x2: scale(tick), y1: top, y2: bottom, stroke: FAINT }),
      text(scale(tick), bottom + 16, shorten(tick), { 'text-anchor': 'middle', 'font-size': 11 }),
    ]),
    text(scale(axis.at(-1)! / 2), bottom + 34, unit, { 'text-anchor': 'middle', 'font-size': 11 }),
    ...bars.flatMap((bar, row) => drawBar(bar, top + row * ROW, scale)),
  ]);
}

function drawBar(
  { label, parts, color = 0, points = [] }: Bar,
  top: number,
  scale: (value: number) => number,
): string[] {
  const middle = top + ROW / 2;
  const end = Math.max(sum(parts), ...points);
  return [
    text(LEFT - 10, middle + 4, label, { 'text-anchor': 'end' }),
    ...parts.map((part, position) => {
      const before = sum(parts.slice(0, position));
      return element('rect', {
        x: scale(before),
        y: middle - BAR / 2,
        width: Math.max(scale(before + part) - scale(before), 0),
        height: BAR,
        fill: COLORS[(color + position) % COLORS.length]!,
        'fill-opacity': 0.85,
      });
    }),
    ...points.map((point) =>
      element('circle', { cx: scale(point), cy: middle, r: 3, fill: INK, 'fill-opacity': 0.6, stroke: '#ffffff' }),
    ),
    text(scale(end) + 8, middle + 4, shorten(sum(parts))),
  ];
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
