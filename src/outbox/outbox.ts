import type { CallerTransaction } from '../db/connection.ts';
import { insertOutboxJob } from '../db/statements/outbox.ts';
import { runJobs } from '../queues/run-jobs.ts';
import type { PublishedJob, RunEnd, RunStart } from '../queues/run-jobs.ts';

/** Options of {@link createOutbox}. */
export interface OutboxOptions {
  /** The clock that fills in `startedAt` and `finishedAt`; default the process's. */
  now?: () => Date;
}

/**
 * Publishes the events of heartbeat runs in the caller's transaction, on the database that the workers use: if it
 * commits, a worker publishes the job, and if it is rolled back, nothing is published. The queue need not be reachable.
 *
 * Every method validates its input before anything is written ({@link InvalidPayloadError}), and resolves to the id
 * that the job will have, which is the one a producer would give it: `waitForLease` of a producer finds it. Events of a
 * run are published in the order in which they were written. Publishing an event again is harmless.
 */
export interface Outbox {
  /** @param tx a drizzle transaction, of any driver and over any tables; it need have no right but to insert */
  runStarted(tx: CallerTransaction, run: RunStart): Promise<PublishedJob>;
  /** @param tx a drizzle transaction, of any driver and over any tables; it need have no right but to insert */
  runFinished(tx: CallerTransaction, run: RunEnd): Promise<PublishedJob>;
}

/** Creates an outbox. It holds no connection: what it writes, it writes in the transactions it is given. */
export function createOutbox({ now = () => new Date() }: OutboxOptions = {}): Outbox {
  return {
    async runStarted(tx, run) {
      const { queue, jobId, payload } = runJobs.started(run, now());
      await insertOutboxJob(tx, { queue, jobId, runId: payload.runId, payload });
      return { jobId };
    },

    async runFinished(tx, run) {
      const { queue, jobId, payload } = runJobs.finished(run, now());
      await insertOutboxJob(tx, { queue, jobId, runId: payload.runId, payload });
      return { jobId };
    },
  };
}
