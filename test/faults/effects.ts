import type { Sql } from 'postgres';
import type { Violation } from '../../testing/audit/invariants.ts';
import type { QueueName } from '../../src/queues/job-options.ts';
import type { LessorQueue } from '../../src/queues/queues.ts';
import { audit } from '../../testing/audit/invariants.ts';
import { until } from '../../testing/until.ts';

/** The queues of the messages of runs. */
const RUN_QUEUES = ['run-started', 'run-finished', 'run-heartbeat'] as const;

/** Time for workers to recover from a fault, and then to process the backlog. */
const RECOVERY_TIMEOUT_MS = 45_000;

/** The rows of runs in Postgres, counted. */
export interface Effects {
  /** Recorded runs. */
  runs: number;
  /** Of these, the ended ones. */
  ended: number;
  leases: number;
  live: number;
  /** Events of each kind. */
  acquired: number;
  released: number;
}

/** The effects of runs that started, some of which succeeded, each exactly once. */
export const effectsOnce = (started: number, succeeded: number): Effects => ({
  runs: started,
  ended: succeeded,
  leases: started,
  live: started - succeeded,
  acquired: started,
  released: succeeded,
});

/** The effects of the given runs. */
export async function effectsOf(sql: Sql, runIds: readonly string[]): Promise<Effects> {
  const [effects] = await sql<[Effects]>`
    select
      (select count(*)::int from lessor.heartbeat_runs where id = any(${runIds}::uuid[])) as runs,
      (select count(*)::int from lessor.heartbeat_runs
        where id = any(${runIds}::uuid[]) and finished_at is not null) as ended,
      (select count(*)::int from lessor.environment_leases
        where heartbeat_run_id = any(${runIds}::uuid[])) as leases,
      (select count(*)::int from lessor.environment_leases
        where heartbeat_run_id = any(${runIds}::uuid[]) and status = 'active') as live,
      (select count(*)::int from lessor.activity_log
        where run_id = any(${runIds}::uuid[]) and action = 'environment.lease_acquired') as acquired,
      (select count(*)::int from lessor.activity_log
        where run_id = any(${runIds}::uuid[]) and action = 'environment.lease_released') as released`;
  return { ...effects };
}

/** Waits until the given runs have these effects. */
export async function untilEffects(sql: Sql, runIds: readonly string[], wanted: Partial<Effects>): Promise<void> {
  await until(
    async () => {
      const effects = await effectsOf(sql, runIds);
      const reached = Object.entries(wanted).every(([name, count]) => effects[name as keyof Effects] === count);
      if (!reached) throw new Error(JSON.stringify(effects));
      return true;
    },
    { timeoutMs: RECOVERY_TIMEOUT_MS, what: `the effects ${JSON.stringify(wanted)}` },
  );
}

/** Waits until every job of a run is completed, and none has failed. */
export async function untilAllCompleted(queue: (name: QueueName) => LessorQueue): Promise<void> {
  await until(
    async () => {
      for (const name of RUN_QUEUES) {
        const { completed: _completed, ...others } = await queue(name).getJobCounts();
        const left = Object.values(others).reduce((sum, count) => sum + count, 0);
        if (left > 0) throw new Error(`${name}: ${JSON.stringify(others)}`);
      }
      return true;
    },
    { timeoutMs: RECOVERY_TIMEOUT_MS, what: 'every job being completed' },
  );
}

/** Waits until every job is completed, and returns the effects of the runs with all violations of invariants. */
export async function outcomeOnceCompleted(
  queue: (name: QueueName) => LessorQueue,
  sql: Sql,
  runIds: readonly string[],
): Promise<Effects & { violations: Violation[] }> {
  await untilAllCompleted(queue);
  return { ...(await effectsOf(sql, runIds)), violations: await audit(sql) };
}
