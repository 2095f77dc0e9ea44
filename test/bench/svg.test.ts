import { expect, test } from 'vitest';
import { drawBars } from '../../bench/report/bar-chart.ts';
import { drawLine } from '../../bench/report/line-chart.ts';
import { shorten, ticks } from '../../bench/report/svg.ts';

test('a chart’s axis spans zero to the largest value in round steps', () => {
  expect(ticks(27_000)).toEqual([0, 10_000, 20_000, 30_000]);
  expect(ticks(5)).toEqual([0, 1, 2, 3, 4, 5]);
  expect(ticks(0.93).at(-1)).toBeCloseTo(1);
  for (const largest of [0.003, 0.7, 1, 9.99, 10, 123, 99_999]) {
    const axis = ticks(largest);
    expect(axis.at(-1)).toBeGreaterThanOrEqual(largest * (1 - 1e-9));
    expect(axis.length).toBeGreaterThanOrEqual(3);
    expect(axis.length).toBeLessThanOrEqual(11);
  }
});

test('a chart without values still has an axis', () => {
  expect(ticks(0)).toEqual([0, 1]);
  expect(ticks(Number.NaN)).toEqual([0, 1]);
});

test('a chart shows numbers with three significant digits', () => {
  expect([12_345.6, 123.4, 12.34, 0.012_34, 0].map(shorten)).toEqual(['12,346', '123', '12.3', '0.0123', '0']);
});

test('a bar chart scales bars to their values, stacks their parts, and places dots at single measurements', () => {
  const svg = drawBars({
    title: 'Rates',
    unit: 'jobs a second',
    legend: ['first', 'second'],
    bars: [
      { label: 'whole', parts: [100], points: [50, 100] },
      { label: 'halves', parts: [50, 50] },
    ],
  });
  const rectangles = attributesOf(svg, 'rect').filter((rectangle) => rectangle['fill-opacity'] !== undefined);
  const [whole, left, right] = rectangles.map(({ x, width }) => ({ x: Number(x), width: Number(width) }));
  expect(whole!.width).toBeGreaterThan(0);
  expect(left!.width + right!.width).toBeCloseTo(whole!.width);
  expect(right!.x).toBeCloseTo(left!.x + left!.width);
  const dots = attributesOf(svg, 'circle').map(({ cx }) => Number(cx));
  expect(dots[0]).toBeCloseTo(whole!.x + whole!.width / 2);
  expect(dots[1]).toBeCloseTo(whole!.x + whole!.width);
});

test('a line chart passes through its points, with larger values higher up', () => {
  const svg = drawLine({
    title: 'Memory',
    xUnit: 'jobs',
    yUnit: 'MiB',
    points: [
      { x: 0, y: 50 },
      { x: 10, y: 100 },
    ],
    bound: { y: 200, label: 'bound' },
  });
  const [line] = attributesOf(svg, 'polyline');
  const [first, last] = line!['points']!.split(' ').map((point) => point.split(',').map(Number));
  expect(last![0]).toBeGreaterThan(first![0]!);
  expect(last![1]).toBeLessThan(first![1]!);
  expect(svg).toContain('bound');
});

test('a chart escapes the text it shows', () => {
  const svg = drawBars({ title: '<script>&"', unit: '', bars: [{ label: '</svg>', parts: [1] }] });
  expect(svg).not.toContain('<script>');
  expect(svg.match(/<\/svg>/g)).toHaveLength(1);
});

function attributesOf(svg: string, name: string): Record<string, string>[] {
  return [...svg.matchAll(new RegExp(`<${name} ([^>]*)>`, 'g'))].map(([, attributes]) =>
    Object.fromEntries([...attributes!.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, key, value]) => [key!, value!])),
  );
}
