import type { Logger } from 'pino';
import type { Db } from '../db/connection.ts';
import { recordDenials } from '../db/statements/activity.ts';
import type { Actor } from '../db/statements/activity.ts';
import { applyOperations } from '../environments/operations.ts';
import type { Operation, OperationOutcome } from '../environments/operations.ts';
import { Coalescer } from './coalescer.ts';
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

/** @param releaseJobs what the sweep brings back lost jobs with */
export function openOperations(
  db: Db,
  settings: ResolvedWorkerSettings,
  logger: Logger,
  releaseJobs: ReleaseJobs,
): OperationsOnPostgres {
  const { companyRegistration, defaultTtlSeconds, leaseWaitMs, replica } = settings;
  const actor: Actor = { type: 'system', id: `lessor:${replica}` };
  const operationSettings = { actor, companyRegistration, defaultTtlSeconds, leaseWaitMs };
  const stopping = new AbortController();
  const outage = new StoreOutage({
    signal: stopping.signal,
    onUnreachable: (detail) => logger.warn(detail, 'Postgres is away: jobs wait and spend no attempt'),
    onReachable: (detail) => logger.info(detail, 'Postgres is back'),
  });
  const commit = (operations: readonly Operation[]) =>
    outage.outlast(() => db.transaction((tx) => applyOperations(tx, operations, operationSettings)));
  const coalescer = new Coalescer<Operation, OperationOutcome>({
    maximumBatchSize: settings.batchSize,
    maximumBatchesInFlight: settings.batchesInFlight,
    keyOf: (operation) => operation.payload.companyId,
    commit,
  });
  const sweep = new Sweep({
    db,
    actor,
    logger,
    releaseJobs,
    batchSize: SWEEP_BATCH_SIZE,
    retentionSeconds: settings.runRetentionSeconds,
  });
  return {
    submit: (operation) => coalescer.submit(operation),
    submitAlone: async (operation) => {
      const [outcome] = await commit([operation]);
      return outcome!;
    },
    tellDenial: (run, refusal) =>
      outage.outlast(() => db.transaction((tx) => recordDenials(tx, [{ ...run, refusal }], actor))),
    sweep: () => outage.outlast(() => sweep.run()),
    stopWaiting: () => stopping.abort(),
  };
}
