import { mkdir, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { runProgram } from '../testing/program.ts';
import type { ProgramContext } from '../testing/program.ts';
import type { Progress } from '../testing/progress.ts';
import { Processes } from './context.ts';
import type { BenchContext } from './context.ts';
import { CONTENDERS, CONTENDER_NAMES } from './contenders/index.ts';
import { describeMachine } from './machine.ts';
import { readOptions } from './options.ts';
import type { SectionName } from './options.ts';
import { printFigures } from './report/figures-table.ts';
import { toJson } from './report/json.ts';
import { toMarkdown } from './report/markdown.ts';
import { plotsOf } from './report/plots.ts';
import type { BenchResults } from './results.ts';
import { measureFairness } from './sections/fairness.ts';
import { measureGrowth } from './sections/growth.ts';
import { measureLatency } from './sections/latency.ts';
import { measureMemory } from './sections/memory.ts';
import { measureReplicas } from './sections/replicas.ts';
import { measureStart } from './sections/start.ts';
import { measureThroughput } from './sections/throughput.ts';
import { openStores } from './stores.ts';

const options = readOptions();
const startedAt = new Date();
await runProgram(bench);

async function bench({ closers, progress }: ProgramContext): Promise<void> {
  progress.start('starting the stores');
  const stores = await openStores(closers);
  const processes = new Processes();
  closers.add(() => processes.endAll());
  const found = { audits: 0, violations: [] as string[], failures: [] as string[] };
  const context: BenchContext = {
    stores,
    scale: options.scale,
    processes,
    describe: (what) => progress.start(what),
    recordAudit(where, violations) {
      found.audits += 1;
      found.violations.push(...violations.map((violation) => `${where}: ${violation}`));
    },
    recordFailure(where, error) {
      const { message, stack }: { message: string; stack?: string } =
        error instanceof Error ? error : { message: String(error) };
      progress.fail(`${where}: ${stack ?? message}`);
      found.failures.push(`${where}: ${message.split('\n')[0]}`);
    },
  };
  const measured = await measureAll(context);
  const packages = CONTENDER_NAMES.flatMap((name) => CONTENDERS[name].packages);
  const results: BenchResults = {
    startedAt: startedAt.toISOString(),
    seconds: Math.round((Date.now() - startedAt.getTime()) / 100) / 10,
    quick: options.quick,
    scale: options.scale,
    machine: await describeMachine(stores, packages),
    ...measured,
    ...found,
  };
  await report(results, progress);
  if (found.violations.length + found.failures.length > 0) process.exitCode = 1;
}

async function measureAll(context: BenchContext) {
  const { contenders, sections } = options;
  const secondsOf: Record<string, number> = {};
  const timed = async <Result>(name: string, measure: () => Promise<Result>): Promise<Result> => {
    const from = performance.now();
    try {
      return await measure();
    } finally {
      secondsOf[name] = Math.round((performance.now() - from) / 100) / 10;
    }
  };
  const section = async <Result>(
    name: SectionName,
    measure: (using: BenchContext) => Promise<Result>,
  ): Promise<Record<string, Result>> => {
    if (!sections.has(name)) return {};
    try {
      return { [name]: await timed(name, () => measure(context)) };
    } catch (error) {
      context.recordFailure(name, error);
      // A failed section may have left work to its processes.
      await context.processes.endAll();
      return {};
    }
  };
  const oneCompany = sections.has('oneCompany') ? (['lessor', 'lessorPostgres'] as const) : [];
  return {
    throughput: await timed('throughput', () => measureThroughput(context, contenders, oneCompany)),
    ...(await section('latency', measureLatency)),
    ...(await section('fairness', measureFairness)),
    ...(await section('growth', measureGrowth)),
    ...(await section('replicas', measureReplicas)),
    ...(await section('memory', measureMemory)),
    ...(await section('start', measureStart)),
    secondsOf,
  };
}

async function report(results: BenchResults, progress: Progress): Promise<void> {
  const plots = plotsOf(results);
  const files = new Map([
    ['report.md', toMarkdown(results, new Set(plots.keys()))],
    ['results.json', `${JSON.stringify(toJson(results), undefined, 2)}\n`],
    ...plots,
  ]);
  await mkdir(options.output, { recursive: true });
  for (const [name, content] of files) await writeFile(join(options.output, name), content);
  progress.succeed(`the report is in ${relative(process.cwd(), options.output)}`);
  process.stdout.write(options.json ? `${JSON.stringify(toJson(results))}\n` : printFigures(results));
}
