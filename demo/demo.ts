import { Command, Option } from 'commander';
import postgres from 'postgres';
import type { Sql } from 'postgres';
import { createHeartbeatProducer } from '../src/index.ts';
import { spawnWorker } from '../testing/processes.ts';
import { runProgram } from '../testing/program.ts';
import type { ProgramContext } from '../testing/program.ts';
import type { Progress } from '../testing/progress.ts';
import { openStores } from '../testing/stores/open-stores.ts';
import type { QueueBackend } from '../testing/stores/open-stores.ts';
import { until } from '../testing/until.ts';
import { activityTable, countLiveLeases, leaseTable, readReport } from './report.ts';
import type { DemoReport } from './report.ts';
import { planRuns } from './scenario.ts';
import type { DemoRun } from './scenario.ts';

const WORKERS = 2;

/** A lease of five seconds expires, and a sweep every second finds it: the rest is for a slow machine. */
const SWEEP_TIMEOUT_MS = 60_000;

const program = new Command('demo')
  .description('Drives real heartbeat runs through two worker processes and audits the invariants in Postgres.')
  .addOption(
    new Option('--backend <backend>', 'where the queue is; auto: Redis where one is found, else Postgres')
      .choices(['auto', 'redis', 'postgres'])
      .default('auto'),
  )
  .option('--json', 'print one JSON object on stdout, and nothing else', false)
  .addHelpText('after', '\nQUEUE_URL and DATABASE_URL, when set, are used instead of ephemeral stores.');
const flags = program.parse().opts<{ backend: QueueBackend | 'auto'; json: boolean }>();

const startedAt = performance.now();
await runProgram(runDemo);

async function runDemo({ closers, progress }: ProgramContext): Promise<void> {
  progress.start('starting Postgres and the queue');
  const stores = await openStores(flags.backend, closers);
  progress.succeed(`queue on ${stores.backend}, migrated`);
  progress.start(`starting ${WORKERS} workers`);
  const workers = Array.from({ length: WORKERS }, (_, index) =>
    spawnWorker(stores, ['--replica', `demo-${index + 1}`, '--sweep-interval', '1s']),
  );
  closers.add(async () => void (await Promise.all(workers.map((worker) => worker.stop()))));
  const producer = createHeartbeatProducer({ queueUrl: stores.queueUrl });
  closers.add(() => producer.close());
  const sql = postgres(stores.databaseUrl, { max: 2, onnotice: () => undefined });
  closers.add(() => sql.end());

  const runs = planRuns({ producer, stores, sql });
  await driveRuns(runs, progress);
  progress.start('waiting until the lease of the killed run has expired and is swept');
  const companyIds = [...new Set(runs.map((run) => run.companyId))];
  await until(async () => (await countLiveLeases(sql, companyIds)) === 0, { timeoutMs: SWEEP_TIMEOUT_MS });
  progress.succeed('every lease has ended');

  const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
  const report = await readReport(sql, runs, stores.backend, seconds);
  await print(report, sql, runs);
  if (report.violations.length > 0) process.exitCode = 1;
}

async function driveRuns(runs: readonly DemoRun[], progress: Progress): Promise<void> {
  let finished = 0;
  await Promise.all(
    runs.map(async (run) => {
      await run.drive({ companyId: run.companyId, runId: run.runId });
      finished += 1;
      progress.succeed(`${finished}/${runs.length} a run that ${run.title}`);
      progress.start('driving runs');
    }),
  );
}

async function print(report: DemoReport, sql: Sql, runs: readonly DemoRun[]): Promise<void> {
  if (flags.json) {
    process.stdout.write(`${JSON.stringify(report)}\n`);
    return;
  }
  const example = runs.find((run) => run.expected.lease === 'expired')!;
  const { leases, activity, violations, seconds } = report;
  process.stdout.write(`\nLeases\n${await leaseTable(sql, runs)}\n`);
  process.stdout.write(`\nActivity of the run that ${example.title}\n${await activityTable(sql, example)}\n`);
  process.stdout.write(
    `\n${report.runs} runs of ${report.companies} companies: ${leases.acquired} leases acquired, ` +
      `${leases.released} released, ${leases.failed} failed, ${leases.expired} expired, ${leases.live} live; ` +
      `${activity.acquired} acquisitions and ${activity.ended} ends recorded.\n`,
  );
  for (const { invariant, detail } of violations) process.stdout.write(`✖ ${invariant}: ${detail}\n`);
  const verdict = violations.length === 0 ? '✔ every invariant holds' : `✖ ${violations.length} violations`;
  process.stdout.write(`${verdict} (queue on ${report.backend}, ${seconds} s)\n`);
}
