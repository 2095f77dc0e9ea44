import type { Logger } from 'pino';
import type { LeaseRelease } from '../contracts/index.ts';
import type { WorkerPool } from '../db/worker-pool.ts';
import { recordDenials } from '../db/statements/activity.ts';
import type { Actor } from '../db/statements/activity.ts';
import { applyOperations } from '../environments/operations.ts';
import type { Operation, OperationOutcome, OutcomeOf } from '../environments/operations.ts';
import type { ControlDriver } from '../environments/drivers/driver.ts';
import { applyFirstStarts, applyUsualOperations, canBeUsual } from '../environments/usual-operations.ts';
import { Coalescer } from './coalescer.ts';
import { DriverCalls } from './driver-calls.ts';
import type { DriverSlotLimits } from './driver-slots.ts';
import type { HandlerDependencies } from './handler.ts';
import type { ReleaseJobs } from './lost-releases.ts';
import { StoreOutage } from './store-outage.ts';
import { Sweep } from './sweep.ts';
import type { SweepResult } from './sweep.ts';
import type { ResolvedWorkerSettings } from './worker-options.ts';

/** What handlers and the sweep do in Postgres, outlasting its outages. */
export interface OperationsOnPostgres extends HandlerDependencies {
  /** Commits an operation in a transaction of its own, for one that may be poisonous. */
  submitAlone: HandlerDependencies['submit'];
  sweep(): Promise<SweepResult>;
  /** From now on nothing waits for Postgres to come back: what is under way is rejected. */
  stopWaiting(): void;
}

const SWEEP_BATCH_SIZE = 500;

/** Longer than a large batch takes that has to wait for nobody. */
const PATIENCE_MS = 250;

/** What operations reach besides Postgres. */
export interface OperationsReach {
  logger: Logger;
  releaseJobs: ReleaseJobs;
  drivers: readonly ControlDriver[];
}

export function openOperations(
  db: WorkerPool,
  settings: ResolvedWorkerSettings,
  { logger, releaseJobs, drivers }: OperationsReach,
): OperationsOnPostgres {
  const { companyRegistration, defaultTtlSeconds, leaseWaitMs, replica } = settings;
  const actor: Actor = { type: 'system', id: `lessor:${replica}` };
  const stopping = new AbortController();
  const driverCalls = new DriverCalls({ drivers, slots: slotLimits(settings), stopping: stopping.signal });
  const leasable = { enabled: settings.enableEnvironments, drivers: driverCalls.names };
  const operationSettings = { actor, companyRegistration, defaultTtlSeconds, leaseWaitMs, leasable };
  const requestReleases = (releases: readonly LeaseRelease[]) => requestFrom(releaseJobs, releases, logger);
  const outage = new StoreOutage({
    signal: stopping.signal,
    onUnreachable: (detail) => logger.warn(detail, 'Postgres is away: jobs wait and spend no attempt'),
    onReachable: (detail) => logger.info(detail, 'Postgres is back'),
  });
  const commitUsual = (operations: readonly Operation[]) =>
    outage.outlast(() => applyUsualOperations(db, operations, operationSettings));
  const commitFirstStarts = (starts: readonly Operation[]) =>
    outage.outlast(() => applyFirstStarts(db, starts, operationSettings));
  const commitAny = (operations: readonly Operation[]) =>
    outage.outlast(() => db.transaction((tx) => applyOperations(tx, operations, operationSettings)));
  const grouped = {
    maximumBatchSize: settings.batchSize,
    maximumBatchesInFlight: settings.batchesInFlight,
    patienceMs: PATIENCE_MS,
    keyOf: (operation: Operation) => operation.payload.companyId,
  };
  const usual = new Coalescer<Operation, OperationOutcome | undefined>({ ...grouped, commit: commitUsual });
  const firstStarts = new Coalescer<Operation, OperationOutcome | undefined>({ ...grouped, commit: commitFirstStarts });
  const others = new Coalescer<Operation, OperationOutcome>({ ...grouped, commit: commitAny });
  const submitUsual = async (operation: Operation): Promise<OperationOutcome | undefined> => {
    const outcome = await usual.submit(operation);
    return outcome === undefined && operation.kind === 'start' ? firstStarts.submit(operation) : outcome;
  };
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
    submit: async <Submitted extends Operation>(operation: Submitted) => {
      const outcome = canBeUsual(operation) ? await submitUsual(operation) : undefined;
      return (outcome ?? (await others.submit(operation))) as OutcomeOf<Submitted['kind']>;
    },
    submitAlone: async <Submitted extends Operation>(operation: Submitted) => {
      const [outcome] = await commitAny([operation]);
      return outcome as OutcomeOf<Submitted['kind']>;
    },
    drivers: driverCalls,
    requestReleases,
    tellDenial: (run, refusal) =>
      outage.outlast(() => db.transaction((tx) => recordDenials(tx, [{ ...run, refusal }], actor))),
    sweep: () => outage.outlast(() => sweep.run()),
    stopWaiting: () => stopping.abort(),
  };
}

/** At least half of the jobs that are worked on at once are left to what needs no driver. */
function slotLimits({
  concurrency,
  driverConcurrency,
  environmentConcurrency,
}: ResolvedWorkerSettings): DriverSlotLimits {
  const total = Math.max(1, Math.min(driverConcurrency, Math.floor(concurrency / 2)));
  return { total, perEnvironment: Math.min(environmentConcurrency, total) };
}

async function requestFrom(jobs: ReleaseJobs, releases: readonly LeaseRelease[], logger: Logger): Promise<void> {
  if (releases.length === 0) return;
  try {
    await jobs.restore(releases);
  } catch (error) {
    const leases = releases.map(({ leaseId }) => leaseId);
    logger.warn({ err: error, leases }, 'jobs of releases could not be published: a later sweep does');
  }
}
