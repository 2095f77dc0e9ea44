import type { Logger } from 'pino';
import type { Db } from '../db/connection.ts';
import { recordDenials } from '../db/statements/activity.ts';
import type { Actor } from '../db/statements/activity.ts';
import { applyOperations } from '../environments/operations.ts';
import type { Operation, OperationOutcome } from '../environments/operations.ts';
import { Coalescer } from './coalescer.ts';
import type { HandlerDependencies } from './handler.ts';
import { sweepLeases } from './lease-sweep.ts';
import type { SweepResult } from './lease-sweep.ts';
import { StoreOutage } from './store-outage.ts';
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

export function openOperations(db: Db, settings: ResolvedWorkerSettings, logger: Logger): OperationsOnPostgres {
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
  return {
    submit: (operation) => coalescer.submit(operation),
    submitAlone: async (operation) => {
      const [outcome] = await commit([operation]);
      return outcome!;
    },
    tellDenial: (run, refusal) =>
      outage.outlast(() => db.transaction((tx) => recordDenials(tx, [{ ...run, refusal }], actor))),
    sweep: () => outage.outlast(() => sweepLeases({ db, actor, logger, batchSize: SWEEP_BATCH_SIZE })),
    stopWaiting: () => stopping.abort(),
  };
}
