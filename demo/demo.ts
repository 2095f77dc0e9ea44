import { Command, Option } from 'commander';
import ora from 'ora';
import postgres from 'postgres';
import type { Sql } from 'postgres';
import { createHeartbeatProducer } from '../src/index.ts';
import { Closers } from '../test/support/closers.ts';
import { until } from '../test/support/until.ts';
import { activityTable, leaseTable, liveLeases, readReport } from './report.ts';
import type { DemoReport } from './report.ts';
import { planRuns } from './scenario.ts';
import type { DemoRun } from './scenario.ts';
import { openStores } from './stores.ts';
import type { BackendChoice } from './stores.ts';
import { startWorkers } from './worker-processes.ts';

const WORKERS = 2;

/** A lease of two seconds lapses, and a sweep every second finds it: this leaves room for a slow machine. */
const QUIET_TIMEOUT_MS = 60_000;

const program = new Command('demo')
  .description('Drives real heartbeat runs through two worker processes and reads the invariants back from Postgres.')
  .addOption(
    new Option('--backend <backend>', 'where the queue is; auto: Redis if one is at hand, else Postgres')
      .choices(['auto', 'redis', 'postgres'])
      .default('auto'),
  )
  .option('--json', 'print one JSON object on stdout, and nothing else', false)
  .addHelpText('after', '\nQUEUE_URL and DATABASE_URL, when set, are used instead of throwaway stores.');
const flags = program.parse().opts<{ backend: BackendChoice; json: boolean }>();

const startedAt = performance.now();
const closers = new Closers();
const progress = ora({ stream: process.stderr, discardStdin: false });
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void interrupt(signal));

try {
  await runDemo();
} finally {
  progress.stop();
  await closers.close();
}

async function runDemo(): Promise<void> {
  progress.start('starting Postgres and the queue');
  const stores = await openStores(flags.backend, closers);
  progress.succeed(`queue on ${stores.backend}, migrated`).start(`starting ${WORKERS} workers`);
  const workers = startWorkers(stores, WORKERS);
  closers.push(() => workers.stop());
  const producer = createHeartbeatProducer({ queueUrl: stores.queueUrl });
  closers.push(() => producer.close());
  const sql = postgres(stores.databaseUrl, { max: 2, onnotice: () => undefined });
  closers.push(() => sql.end());

  const runs = planRuns({ producer, stores, sql });
  await driveRuns(runs);
  progress.start('waiting until the lease of the killed run has lapsed and is swept');
  const companyIds = [...new Set(runs.map((run) => run.companyId))];
  await until(async () => (await liveLeases(sql, companyIds)) === 0, { timeoutMs: QUIET_TIMEOUT_MS });
  progress.succeed('every lease has ended');

  const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
  const report = await readReport(sql, runs, stores.backend, seconds);
  await show(report, sql, runs);
  if (report.violations.length > 0) process.exitCode = 1;
}

async function driveRuns(runs: readonly DemoRun[]): Promise<void> {
  let finished = 0;
  await Promise.all(
    runs.map(async (run) => {
      await run.drive({ companyId: run.companyId, runId: run.runId });
      finished += 1;
      progress.succeed(`${finished}/${runs.length} a run that ${run.title}`).start('driving runs');
    }),
  );
}

async function show(report: DemoReport, sql: Sql, runs: readonly DemoRun[]): Promise<void> {
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
      `${activity.acquired} acquisitions and ${activity.ended} ends told.\n`,
  );
  for (const { invariant, detail } of violations) process.stdout.write(`✖ ${invariant}: ${detail}\n`);
  const verdict = violations.length === 0 ? '✔ every invariant holds' : `✖ ${violations.length} violations`;
  process.stdout.write(`${verdict} (queue on ${report.backend}, ${seconds} s)\n`);
}

async function interrupt(signal: NodeJS.Signals): Promise<void> {
  progress.stop();
  await closers.close();
  process.exit(signal === 'SIGINT' ? 130 : 143);
}
