import type { z } from 'zod';
import type { LeaseRelease, Rejection } from '../contracts/index.ts';
import type { Operation, OperationOutcome, OutcomeOf } from '../environments/operations/operation.ts';
import type { OperationQueueName } from '../queues/names.ts';
import type { DriverCalls } from './driver-calls.ts';

/** What handlers may do. They know no BullMQ: tests call them with the same dependencies as the worker does. */
export interface HandlerDependencies {
  /** Commits an operation together with whatever else is waiting. */
  submit: <Submitted extends Operation>(operation: Submitted) => Promise<OutcomeOf<Submitted['kind']>>;
  /** Tells in the activity log that a run was denied, where its company is known. */
  recordRejection: (run: { companyId: string; runId: string }, rejection: Rejection) => Promise<void>;
  drivers: Pick<DriverCalls, 'inSlot' | 'acquire' | 'release'>;
  /** Publishes jobs that clean up after leases. While the queue is away that is left to the sweep. */
  requestReleases: (releases: readonly LeaseRelease[]) => Promise<void>;
}

/** Which attempt at a job this is. */
export interface Attempt {
  /** From 1. */
  number: number;
  /** Whether the job is left in the failed set if this one fails. */
  isLast: boolean;
}

/** How the jobs of one queue are handled. */
export interface Handler<Schema extends z.ZodType = z.ZodType> {
  queue: OperationQueueName;
  schema: Schema;
  handle(dependencies: HandlerDependencies, payload: z.output<Schema>, attempt: Attempt): Promise<OperationOutcome>;
  /** Called for a job that is refused without an operation having told it; its data can be anything. */
  denied?(dependencies: HandlerDependencies, data: unknown, rejection: Rejection): Promise<void>;
}
