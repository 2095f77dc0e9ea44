import { pino } from 'pino';
import type { Sql } from 'postgres';
import { afterAll, beforeAll, onTestFinished } from 'vitest';
import { createWorker } from '../../src/consumers/worker.ts';
import type { Worker, WorkerOptions } from '../../src/consumers/worker.ts';
import { createHeartbeatProducer } from '../../src/producers/producer.ts';
import type { HeartbeatProducer, HeartbeatProducerOptions } from '../../src/producers/producer.ts';
import type { QueueName } from '../../src/queues/job-options.ts';
import { openQueues } from '../../src/queues/queues.ts';
import type { LessorQueue } from '../../src/queues/queues.ts';
import { Closers } from '../../src/lib/closers.ts';
import { holdLock } from '../support/locks.ts';
import type { Backend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';

export const silentLogger = pino({ level: 'silent' });

export type WorkerOverrides = Partial<WorkerOptions>;

/** Creates a replica on the suite's stores. It is not started, and closed after the test. */
export function newWorker({ queueUrl, prefix, database }: Backend, overrides: WorkerOverrides = {}): Worker {
  const worker = createWorker({ databaseUrl: database.url, queueUrl, prefix, logger: silentLogger, ...overrides });
  onTestFinished(() => worker.close());
  return worker;
}

/** Starts a replica on the suite's stores, and closes it after the test. */
export async function startWorker(backend: Backend, overrides: WorkerOverrides = {}): Promise<Worker> {
  const worker = newWorker(backend, overrides);
  await worker.start();
  return worker;
}

/** Starts one replica for the whole suite. */
export function useWorker({ queueUrl, prefix, database }: Backend, overrides: WorkerOverrides = {}): void {
  let worker: Worker | undefined;
  beforeAll(async () => {
    worker = createWorker({ databaseUrl: database.url, queueUrl, prefix, logger: silentLogger, ...overrides });
    await worker.start();
  });
  afterAll(() => worker?.close());
}

/** A producer on the suite's queues, closed after the test. */
export function openProducer(
  { queueUrl, prefix }: Pick<Backend, 'queueUrl' | 'prefix'>,
  options: Partial<HeartbeatProducerOptions> = {},
): HeartbeatProducer {
  const producer = createHeartbeatProducer({ queueUrl, prefix, ...options });
  onTestFinished(() => producer.close());
  return producer;
}

/** The suite's queues as a non-Node client sees them: the jobs that it adds are not validated. */
export function useQueues({ queueUrl, prefix }: Backend): (name: QueueName) => LessorQueue {
  const closers = new Closers();
  const opened = new Map<QueueName, LessorQueue>();
  let open: ((name: QueueName) => LessorQueue) | undefined;
  beforeAll(() => {
    const queues = openQueues(queueUrl, { role: 'consumer', prefix, onError: () => undefined });
    closers.add(() => queues.close());
    open = (name) => queues.queue(name);
  });
  afterAll(() => closers.close());
  return (name) => {
    const known = opened.get(name);
    if (known !== undefined) return known;
    const queue = open!(name);
    opened.set(name, queue);
    closers.add(() => queue.close());
    return queue;
  };
}

/** Waits until a job is in one of the states, and returns it. */
export async function jobInState(queue: LessorQueue, jobId: string, ...states: string[]) {
  await until(
    async () => {
      const state = await queue.getJobState(jobId);
      if (!states.includes(state)) throw new Error(`it is ${state}`);
      return true;
    },
    { what: `job ${jobId} being ${states.join(' or ')}` },
  );
  return (await queue.getJob(jobId))!;
}

/** Waits until so many jobs are completed, and no others are left. */
export const untilCompleted = (queue: LessorQueue, jobs: number) =>
  until(
    async () => {
      const { completed = 0, ...others } = await queue.getJobCounts();
      const left = Object.values(others).reduce((sum, count) => sum + count, 0);
      if (completed !== jobs || left > 0) throw new Error(JSON.stringify({ completed, ...others }));
      return true;
    },
    { timeoutMs: 30_000, what: `${jobs} jobs being completed` },
  );

/** Locks a company, so that its operations wait until the returned function is called or the test ends. */
export const lockCompany = (sql: Sql, companyId: string) =>
  holdLock(sql, (connection) => connection`select from lessor.companies where id = ${companyId} for update`);

/** Waits until a worker's session in Postgres waits for a lock. */
export async function untilBlocked(sql: Sql): Promise<void> {
  await until(
    async () => {
      const [waiting] = await sql<[{ count: number }]>`
        select count(*)::int from pg_stat_activity
        where datname = current_database() and application_name like 'lessor worker%' and wait_event_type = 'Lock'`;
      return waiting.count > 0;
    },
    { what: 'a worker waiting for a lock' },
  );
}

/** Counts what the runs of companies caused: Local environments, leases, leased runs, and acquired events. */
export async function countLeases(sql: Sql, companyIds: readonly string[]) {
  const [counts] = await sql<[{ locals: number; leases: number; runs: number; acquired: number }]>`
    select
      (select count(*)::int from lessor.environments where company_id = any(${companyIds}::uuid[])) as locals,
      (select count(*)::int from lessor.environment_leases where company_id = any(${companyIds}::uuid[])) as leases,
      (select count(distinct heartbeat_run_id)::int from lessor.environment_leases
        where company_id = any(${companyIds}::uuid[])) as runs,
      (select count(distinct entity_id)::int from lessor.activity_log
        where company_id = any(${companyIds}::uuid[]) and action = 'environment.lease_acquired') as acquired`;
  return counts;
}

/** Adds a trigger that rejects the insert of a run with a SQLSTATE, so many times. */
export async function rejectRun(
  sql: Sql,
  runId: string,
  sqlState: string,
  { times = 1_000_000, message = 'rejected by a trigger' }: { times?: number; message?: string } = {},
): Promise<void> {
  const name = `reject_${runId.replaceAll('-', '')}`;
  await sql.unsafe(`
    create sequence lessor.${name};
    create function lessor.${name}() returns trigger language plpgsql as $$ begin
      if nextval('lessor.${name}') <= ${times} then
        raise exception using message = '${message}', errcode = '${sqlState}';
      end if;
      return new;
    end $$;
    create trigger ${name} before insert on lessor.heartbeat_runs
      for each row when (new.id = '${runId}') execute function lessor.${name}()`);
}
