import { sql } from 'drizzle-orm';
import type { OutboxQueue } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { CallerTransaction, Transaction } from '../connection.ts';
import { bigintArray } from './parameters.ts';

/** The channel that is notified when a transaction that wrote into the outbox commits. */
export const OUTBOX_CHANNEL = 'lessor_outbox';

/** A job that is to be published if, and only if, the transaction that writes it commits. */
export interface NewOutboxJob {
  queue: OutboxQueue;
  jobId: string;
  runId: string;
  payload: { companyId: string };
}

/** Writes a job and notifies the relays, both when the transaction commits. Its role only needs the right to insert. */
export async function insertOutboxJob(tx: CallerTransaction, job: NewOutboxJob): Promise<void> {
  await tx.execute(sql`
    with job as (
      insert into lessor.outbox (queue, job_id, run_id, payload)
      values (${job.queue}, ${job.jobId}, ${job.runId}, ${JSON.stringify(job.payload)}::text::jsonb)
    )
    select pg_notify(${OUTBOX_CHANNEL}, '')`);
}

/**
 * Makes Postgres end the session when the transaction is idle for so long. The jobs of a relay whose machine is lost would
 * otherwise stay locked until TCP notices, which can take hours.
 */
export async function setIdleInTransactionTimeout(tx: Transaction, milliseconds: number): Promise<void> {
  await tx.execute(sql`select set_config('idle_in_transaction_session_timeout', ${String(milliseconds)}, true)`);
}

/** A job in the outbox. */
export interface OutboxJob {
  id: string;
  queue: OutboxQueue;
  jobId: string;
  payload: { companyId: string };
}

/**
 * Locks the oldest jobs, but none while an earlier job of the same run is in the outbox, locked or not. A job is deleted
 * only once it was published, so any number of relays keep the order of each run, and they never wait for one another.
 *
 * There is no cursor: a job whose transaction commits late is found, whatever was published meanwhile.
 *
 * @param except ids of jobs to skip; later jobs of their runs are skipped with them
 */
export async function lockFirstOutboxJobs(
  tx: Transaction,
  limit: number,
  except: readonly string[],
): Promise<OutboxJob[]> {
  const jobs = await queryRows<Omit<OutboxJob, 'payload'> & { payload: string }>(
    tx,
    sql`
    select id::text as id, queue, job_id as "jobId", payload::text as payload
    from lessor.outbox job
    where not exists (select from lessor.outbox earlier where earlier.run_id = job.run_id and earlier.id < job.id)
      and job.id <> all (${bigintArray(except)})
    order by job.id limit ${limit}
    for update skip locked`,
  );
  return jobs.map((job) => ({ ...job, payload: JSON.parse(job.payload) as OutboxJob['payload'] }));
}

/** Deletes jobs that were published. */
export async function deleteOutboxJobs(tx: Transaction, ids: readonly string[]): Promise<void> {
  await tx.execute(sql`delete from lessor.outbox where id = any(${bigintArray(ids)})`);
}
