import type { Logger } from 'pino';
import type { LeaseRelease } from '../contracts/index.ts';
import type { WorkerPool } from '../db/worker-pool.ts';
import { recordRejections } from '../db/statements/activity.ts';
import type { Actor } from '../db/statements/activity.ts';
import type { ControlDriver } from '../environments/drivers/driver.ts';
import { applyBatch, applyGeneralPath } from '../environments/operations/apply.ts';
import type { OperationPool } from '../environments/operations/apply.ts';
import { ProvisionedCompanies, applyFastPath, needsProvisioning } from '../environments/operations/fast-path.ts';
import { subjectOf } from '../environments/operations/operation.ts';
import type { Operation, OperationOutcome, OutcomeOf } from '../environments/operations/operation.ts';
import { DriverCalls } from './driver-calls.ts';
import type { DriverConcurrency } from './driver-calls.ts';
import { GroupCommit } from './group-commit.ts';
import type { HandlerDependencies } from './handlers.ts';
import { DatabaseOutage } from './database-outage.ts';
import { Sweep } from './sweep/sweep.ts';
import type { SweepDependencies, SweepResult } from './sweep/sweep.ts';
import type { ResolvedWorkerSettings } from './worker-settings.ts';

/** Commits operations of handlers and the sweep to Postgres, and retries while Postgres is unreachable. */
export interface Committer extends HandlerDependencies {
  /** Commits an operation in a transaction of its own: an isolated attempt at a poison pill. */
  submitIsolated: HandlerDependencies['submit'];
  sweep(): Promise<SweepResult>;
  /** Stops waiting for Postgres to be reachable again: what is in flight is rejected. */
  stopWaiting(): void;
}

const SWEEP_BATCH_SIZE = 500;

/** A full batch that is blocked by nobody takes less. */
const SLOW_BATCH_THRESHOLD_MS = 250;

/** For the sweep, for rejections, for isolated attempts, and for the outbox. */
const CONNECTIONS_BESIDE_BATCHES = 4;

/** Most connections to Postgres that a worker uses concurrently: one for each batch in flight of its three groups. */
export function connectionsOf({ batchesInFlight }: Pick<ResolvedWorkerSettings, 'batchesInFlight'>): number {
  return 3 * batchesInFlight + CONNECTIONS_BESIDE_BATCHES;
}

/** What operations reach besides Postgres. */
export interface OperationDependencies {
  logger: Logger;
  releaseJobs: SweepDependencies['releaseJobs'];
  drivers: readonly ControlDriver[];
}

export function openCommitter(
  db: WorkerPool,
  settings: ResolvedWorkerSettings,
  { logger, releaseJobs, drivers }: OperationDependencies,
): Committer {
  const { companyRegistration, defaultTtlSeconds, leaseWaitMs, replica } = settings;
  const actor: Actor = { type: 'system', id: `lessor:${replica}` };
  const stopping = new AbortController();
  const driverCalls = new DriverCalls({
    drivers,
    concurrency: driverConcurrencyOf(settings),
    stopping: stopping.signal,
  });
  const leasable = { enabled: settings.enableEnvironments, drivers: driverCalls.names };
  const operationSettings = { actor, companyRegistration, defaultTtlSeconds, leaseWaitMs, leasable };
  const requestReleases = (releases: readonly LeaseRelease[]) => requestFrom(releaseJobs, releases, logger);
  const outage = new DatabaseOutage({
    signal: stopping.signal,
    onUnreachable: (detail) => logger.warn({ event: 'database_unreachable', ...detail }, 'database unreachable'),
    onReachable: (detail) => logger.info({ event: 'database_reachable', ...detail }, 'database reachable'),
  });
  const pool: OperationPool = {
    pipeline: (statements) => outage.retryWhileUnreachable(() => db.pipeline(statements)),
    transaction: (work) => outage.retryWhileUnreachable(() => db.transaction(work)),
  };
  const grouping = {
    keyOf: (operation: Operation) => operation.payload.companyId,
    subjectOf,
    maxBatchSize: settings.batchSize,
    maxBatchesInFlight: settings.batchesInFlight,
    slowBatchThresholdMs: SLOW_BATCH_THRESHOLD_MS,
  };
  // What falls through the fast path is grouped again, with what falls through other batches: its companies stay excluded
  // from the batches of `operations`, which are not held up by a slow general path of other companies.
  const fallenThrough = new GroupCommit<Operation, OperationOutcome>({
    ...grouping,
    commit: (batch) => applyGeneralPath(pool, batch, operationSettings),
  });
  const provisioned = new ProvisionedCompanies();
  // A company that is being registered elsewhere holds up the starts of other new companies, and nothing else.
  const provisioning = new GroupCommit<Operation, OperationOutcome>({
    ...grouping,
    commit: async (starts) => {
      const outcomes = await applyFastPath(pool, starts, operationSettings, { provisioned });
      return outcomes.map((outcome, position) => outcome ?? fallenThrough.submit(starts[position]!));
    },
  });
  /** What falls through of a company waits for the company's starts, so that it is in one transaction at a time. */
  const generalPath = (rest: readonly Operation[]) => {
    const started = new Map<string, Promise<unknown>>();
    const submitStart = (operation: Operation) => {
      const { companyId } = operation.payload;
      const outcome = provisioning.submit(operation);
      started.set(companyId, Promise.allSettled([started.get(companyId), outcome]));
      return outcome;
    };
    const submitRest = async (operation: Operation) => {
      await started.get(operation.payload.companyId);
      return fallenThrough.submit(operation);
    };
    const starts = new Map(
      rest.filter((operation) => needsProvisioning(operation, provisioned)).map((start) => [start, submitStart(start)]),
    );
    return rest.map((operation) => starts.get(operation) ?? submitRest(operation));
  };
  const operations = new GroupCommit<Operation, OperationOutcome>({
    ...grouping,
    commit: (batch) => applyBatch(pool, batch, operationSettings, { provisioned, generalPath }),
  });
  const sweep = new Sweep({
    db,
    actor,
    logger,
    releaseJobs,
    requestReleases,
    batchSize: SWEEP_BATCH_SIZE,
    retentionSeconds: settings.runRetentionSeconds,
  });
  return {
    submit: async <Submitted extends Operation>(operation: Submitted) =>
      (await operations.submit(operation)) as OutcomeOf<Submitted['kind']>,
    submitIsolated: async <Submitted extends Operation>(operation: Submitted) => {
      const [outcome] = await applyGeneralPath(pool, [operation], operationSettings);
      return outcome as OutcomeOf<Submitted['kind']>;
    },
    drivers: driverCalls,
    requestReleases,
    recordRejection: (run, rejection) => pool.transaction((tx) => recordRejections(tx, [{ ...run, rejection }], actor)),
    sweep: () => outage.retryWhileUnreachable(() => sweep.run()),
    stopWaiting: () => stopping.abort(),
  };
}

/** At least half of the worker's concurrency is reserved for jobs that call no driver. */
function driverConcurrencyOf({
  concurrency,
  driverConcurrency,
  environmentConcurrency,
}: ResolvedWorkerSettings): DriverConcurrency {
  const total = Math.max(1, Math.min(driverConcurrency, Math.floor(concurrency / 2)));
  return { total, perEnvironment: Math.min(environmentConcurrency, total) };
}

async function requestFrom(
  jobs: SweepDependencies['releaseJobs'],
  releases: readonly LeaseRelease[],
  logger: Logger,
): Promise<void> {
  if (releases.length === 0) return;
  try {
    await jobs.restore(releases);
  } catch (error) {
    const leases = releases.map(({ leaseId }) => leaseId);
    logger.warn({ event: 'release_jobs_unpublished', err: error, leases }, 'release jobs not published');
  }
}
