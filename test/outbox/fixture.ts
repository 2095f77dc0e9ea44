import { randomUUID } from 'node:crypto';
import { onTestFinished } from 'vitest';
import { openWorkerPool } from '../../src/db/worker-pool.ts';
import { createOutbox } from '../../src/outbox/outbox.ts';
import { openOutboxRelay } from '../../src/outbox/open-relay.ts';
import type { OpenRelayOptions } from '../../src/outbox/open-relay.ts';
import { OutboxRelay } from '../../src/outbox/relay.ts';
import type { OutboxRelayOptions } from '../../src/outbox/relay.ts';
import { Publisher } from '../../src/queues/publisher.ts';
import { openQueues } from '../../src/queues/queues.ts';
import type { LessorQueue } from '../../src/queues/queues.ts';
import type { TestDatabase } from '../support/database.ts';
import type { Backend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';

/** So long that within a test nothing is found by polling. */
export const NEVER_MS = 3_600_000;

/** So short that a round is always near. */
export const OFTEN_MS = 5;

const outbox = createOutbox();

export const newRun = (companyId: string = randomUUID()) => ({ companyId, runId: randomUUID() });

type Run = ReturnType<typeof newRun>;

/** Writes the start of a run in a transaction of its own. */
export const writeStart = ({ db }: TestDatabase, run: Run) => db.transaction((tx) => outbox.runStarted(tx, run));

/** Writes the end of a run in a transaction of its own. */
export const writeEnd = ({ db }: TestDatabase, run: Run) =>
  db.transaction((tx) => outbox.runFinished(tx, { ...run, status: 'succeeded' }));

/** The ids of the jobs that stand in the outbox, in their order. */
export async function jobsInOutbox({ sql }: TestDatabase): Promise<string[]> {
  const rows = await sql<{ job_id: string }[]>`select job_id from lessor.outbox order by id`;
  return rows.map((row) => row.job_id);
}

export const untilOutboxIsEmpty = (database: TestDatabase) =>
  until(
    async () => {
      const jobs = await jobsInOutbox(database);
      if (jobs.length > 0) throw new Error(`${jobs.length} jobs are left`);
      return true;
    },
    { what: 'the outbox being empty' },
  );

/** The errors that a relay reported. */
export interface ReportedErrors {
  errors: Error[];
  unpublishable: Error[];
}

/** Starts a relay as a worker does, and closes it after the test. It never polls unless told to. */
export function startRelay(backend: Backend, overrides: Partial<OpenRelayOptions> = {}): ReportedErrors {
  const reported: ReportedErrors = { errors: [], unpublishable: [] };
  const db = openWorkerPool(backend.database.url, { maximumConnections: 1, applicationName: 'test relay' });
  const relay = openOutboxRelay(db, {
    databaseUrl: backend.database.url,
    queueUrl: backend.queueUrl,
    prefix: backend.prefix,
    replica: 'test',
    outboxPollIntervalMs: NEVER_MS,
    onError: (error) => reported.errors.push(error),
    onUnpublishable: (error) => reported.unpublishable.push(error),
    ...overrides,
  });
  onTestFinished(async () => {
    await relay.close();
    await db.close();
  });
  return reported;
}

/** The suite's queue, to publish into as a relay does. It is closed after the test. */
export function openPublisher({ queueUrl, prefix }: Backend): Publisher {
  const queues = openQueues(queueUrl, { role: 'producer', prefix, onError: () => undefined });
  const publisher = new Publisher(queues, 5_000);
  onTestFinished(async () => {
    await publisher.close();
    await queues.close();
  });
  return publisher;
}

/** Starts a relay that publishes as the test says, polling all the time. It is closed after the test. */
export function startRelayWith(
  database: TestDatabase,
  publish: OutboxRelayOptions['publisher']['publish'],
  overrides: Partial<OutboxRelayOptions> = {},
): OutboxRelay {
  const db = openWorkerPool(database.url, { maximumConnections: 1, applicationName: 'test relay' });
  const relay = new OutboxRelay({
    db,
    publisher: { publish },
    pingQueue: async () => undefined,
    pollIntervalMs: OFTEN_MS,
    idleInTransactionTimeoutMs: 15_000,
    onError: () => undefined,
    onUnpublishable: () => undefined,
    ...overrides,
  });
  onTestFinished(async () => {
    await relay.close();
    await db.close();
  });
  return relay;
}

/** Waits until a job is in its queue, in whichever state. */
export const untilPublished = (queue: LessorQueue, jobId: string) =>
  until(async () => (await queue.getJob(jobId)) !== undefined, { what: `job ${jobId} being published` });
