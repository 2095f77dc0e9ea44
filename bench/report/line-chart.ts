import { COLORS, FAINT, element, picture, shorten, text, ticks } from './svg.ts';

export interface Point {
  x: number;
  y: number;
}

export interface LineChart {
  title: string;
  xUnit: string;
  yUnit: string;
  points: readonly Point[];
  /** A horizontal line. */
  bound?: { y: number; label: string };
}

const WIDTH = 760;
const HEIGHT = 320;
const LEFT = 70;
const RIGHT = 30;
const TOP = 50;
const BOTTOM = 50;

/** Draws one line, with both axes from zero. */
export function drawLine({ title, xUnit, yUnit, points, bound }: LineChart): string {
  const xAxis = ticks(Math.max(0, ...points.map((point) => point.x)));
  const yAxis = ticks(Math.max(0, bound?.y ?? 0, ...points.map((point) => point.y)));
  const x = (value: number) => LEFT + (value / xAxis.at(-1)!) * (WIDTH - LEFT - RIGHT);
  const y = (value: number) => HEIGHT - BOTTOM - (value / yAxis.at(-1)!) * (HEIGHT - TOP - BOTTOM);
  const path = points.map((point) => `${x(point.x).toFixed(1)},${y(point.y).toFixed(1)}`).join(' ');
  const [left, right] = [LEFT, WIDTH - RIGHT];
  return picture(WIDTH, HEIGHT, title, [
    ...yAxis.flatMap((tick) => [
      element('line', { x1: left, x2: right, y1: y(tick), y2: y(tick), stroke: FAINT }),
      text(left - 8, y(tick) + 4, shorten(tick), { 'text-anchor': 'end', 'font-size': 11 }),
    ]),
    ...xAxis.map((tick) =>
      text(x(tick), HEIGHT - BOTTOM + 16, shorten(tick), { 'text-anchor': 'middle', 'font-size': 11 }),
    ),
    text((left + right) / 2, HEIGHT - 12, xUnit, { 'text-anchor': 'middle', 'font-size': 11 }),
    text(left, TOP - 8, yUnit, { 'font-size': 11 }),
    ...(bound === undefined ? [] : drawBound(bound.label, y(bound.y), left, right)),
    element('polyline', { points: path, fill: 'none', stroke: COLORS[0], 'stroke-width': 2 }),
  ]);
}

function drawBound(label: string, at: number, left: number, right: number): string[] {
  return [
    element('line', { x1: left, x2: right, y1: at, y2: at, stroke: COLORS[2], 'stroke-dasharray': '5 4' }),
    text(right, at - 5, label, { 'text-anchor': 'end', 'font-size': 11, fill: COLORS[2] }),
  ];
}
