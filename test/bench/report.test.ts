import { expect, test } from 'vitest';
import { toJson } from '../../bench/report/json.ts';
import { toMarkdown } from '../../bench/report/markdown.ts';
import { plotsOf } from '../../bench/report/plots.ts';
import { printFigures } from '../../bench/report/figures-table.ts';
import { targetsOf } from '../../bench/report/targets.ts';
import { SECTIONS, resultsOf } from './results-fixture.ts';

test('the JSON report has each figure under its key, and ratios of values of the same round', () => {
  const json = toJson(resultsOf({ lessor: [10_000, 5_000, 11_000], noop: [20_000, 10_000, 20_000] }));
  expect(json).toMatchObject({
    lessor: 10_000,
    noop: 20_000,
    ratio: { noop: 0.5 },
    spread: { lessor: [5_000, 11_000] },
  });
  expect(json).not.toHaveProperty('graphileWorker');
  expect(JSON.parse(JSON.stringify(json))).not.toHaveProperty('ratio.graphileWorker');
});

test('the JSON report has all measured sections', () => {
  const json = toJson({ ...resultsOf({ lessor: [1] }), ...SECTIONS });
  for (const [name, section] of Object.entries(SECTIONS)) expect(json).toHaveProperty(name, section);
});

test('each target of the bench is judged by its own figure', () => {
  const results = { ...resultsOf({ lessor: [12_000], noop: [20_000], graphileWorker: [2_000] }), ...SECTIONS };
  const judged = new Map(targetsOf(results).map(({ what, holds }) => [what, holds]));
  expect(judged.get('throughput over the empty processor')).toBe(true);
  expect(judged.get('over graphile-worker')).toBe(false);
  expect(judged.get('over pg-boss')).toBeUndefined();
  expect(judged.get('latency at a fifth of capacity, p99 over the empty processor')).toBe(true);
  expect(judged.get('B’s p99 over the time of A’s backlog, redis')).toBe(true);
  expect(judged.get('B’s p99 over the time of A’s backlog, postgres')).toBe(false);
  expect(judged.get('what A loses to B, postgres')).toBe(false);
  expect(judged.get('four replicas over one, 10 companies, 5 ms away')).toBe(false);
  expect(judged.get('memory of a worker after its warm-up')).toBe(true);
  expect(judged.get('start of a worker to its first lease')).toBe(true);
});

test('the Markdown report shows every section, every plot and the figure of every round', () => {
  const results = { ...resultsOf({ lessor: [12_001, 12_002], noop: [20_000, 20_001] }), ...SECTIONS };
  const plots = plotsOf(results);
  const page = toMarkdown(results, new Set(plots.keys()));
  expect([...plots.keys()].toSorted()).toEqual(
    ['throughput', 'costs', 'latency', 'fairness', 'growth', 'replicas', 'memory']
      .map((name) => `${name}.svg`)
      .toSorted(),
  );
  for (const name of plots.keys()) expect(page).toContain(`(${name})`);
  for (const heading of ['Throughput', 'Latency', 'Fairness', 'Growth', 'Replicas', 'Memory', 'Start', 'Audit']) {
    expect(page).toContain(`## ${heading}\n`);
  }
  expect(page).toContain('12,001 · 12,002');
  expect(page).toContain('A processor');
});

test('the Markdown report omits sections that were not measured', () => {
  const results = resultsOf({ lessor: [1] });
  const page = toMarkdown(results, new Set(plotsOf(results).keys()));
  expect(page).not.toContain('## Latency');
  expect(page).not.toContain('memory.svg');
});

test('every report format shows violations and failures', () => {
  const results = { ...resultsOf({ lessor: [1] }), violations: ['one-lease: two'], failures: ['pgBoss: gone'] };
  for (const report of [printFigures(results), toMarkdown(results, new Set()), JSON.stringify(toJson(results))]) {
    expect(report).toContain('one-lease: two');
    expect(report).toContain('pgBoss: gone');
  }
});
