import type { z } from 'zod';
import type { Refusal } from '../contracts/index.ts';
import type { Operation } from '../environments/operations.ts';
import type { OperationOutcome } from '../environments/operations.ts';
import type { OperationQueueName } from '../queues/names.ts';

/** What handlers may do. They know no BullMQ: tests call them with the same dependencies as the worker does. */
export interface HandlerDependencies {
  /** Commits an operation together with whatever else is waiting. */
  submit: (operation: Operation) => Promise<OperationOutcome>;
  /** Tells in the activity log that a run was denied, where its company is known. */
  tellDenial: (run: { companyId: string; runId: string }, refusal: Refusal) => Promise<void>;
}

/** How the jobs of one queue are handled. */
export interface Handler<Schema extends z.ZodType = z.ZodType> {
  queue: OperationQueueName;
  schema: Schema;
  handle(dependencies: HandlerDependencies, payload: z.output<Schema>): Promise<OperationOutcome>;
  /** Called for a job that is refused without an operation having told it; its data can be anything. */
  denied?(dependencies: HandlerDependencies, data: unknown, refusal: Refusal): Promise<void>;
}
