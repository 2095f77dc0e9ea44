import type { WorkerPool } from '../db/worker-pool.ts';
import { applyOperations } from './operations.ts';
import type { Operation, OperationOutcome, OperationSettings } from './operations.ts';
import { applyFirstStarts, applyUsualOperations, canBeUsual } from './usual-operations.ts';

/** A way in which a worker carries out operations, batch by batch. */
export interface OperationPath {
  takes(operation: Operation): boolean;
  /** Outcomes in the order given; undefined for what is left alone, which is for the next path that takes it. */
  apply(
    pool: WorkerPool,
    operations: readonly Operation[],
    settings: OperationSettings,
  ): Promise<(OperationOutcome | undefined)[]>;
}

/** In the order in which they are tried, from the one that most operations take to the one that carries out any. */
export const OPERATION_PATHS: readonly OperationPath[] = [
  { takes: canBeUsual, apply: applyUsualOperations },
  // Any start that was left alone, as it does not say why: most are the first of their company.
  { takes: (operation) => operation.kind === 'start' && canBeUsual(operation), apply: applyFirstStarts },
  { takes: () => true, apply: applyAnyOperations },
];

/** Carries out any operations in one transaction, statement by statement: the last path, and what is tried alone. */
export async function applyAnyOperations(
  pool: Pick<WorkerPool, 'transaction'>,
  operations: readonly Operation[],
  settings: OperationSettings,
): Promise<OperationOutcome[]> {
  return pool.transaction((tx) => applyOperations(tx, operations, settings));
}
